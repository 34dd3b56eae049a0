/* Records what a program and its child processes change below one folder, for tests/faults/power.py.
 *
 * Preloaded (LD_PRELOAD), it replaces the functions of libc that change files: each carries out the system call, and
 * appends a record to a log. A lock that all processes share is held meanwhile, so the log has the order of the calls.
 * Calls that cannot be recorded (a shared mapping, for example) are recorded as such, so that the test fails.
 *
 * RECORD_ROOT: the folder. RECORD_LOG: the log, outside of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOG_FILE 700 /* lowest number of the log's descriptor, out of the way of the program's own */

struct __attribute__((packed)) head {
    uint32_t size; /* of the whole record */
    uint8_t op;
    uint32_t pid;
    uint64_t inode;
    int64_t offset;
    uint16_t path, other; /* lengths; the two paths and the data follow */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int log_file = -1;

__attribute__((constructor)) static void start(void) {
    const char *folder = getenv("RECORD_ROOT"), *path = getenv("RECORD_LOG");
    if (folder == NULL || path == NULL) return;
    int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) abort();
    log_file = syscall(SYS_fcntl, file, F_DUPFD_CLOEXEC, LOG_FILE);
    syscall(SYS_close, file);
    if (log_file < 0) abort();
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
}

static int is_inside(const char *path) {
    return log_file >= 0 && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* Whether a path is inside; made absolute. */
static int resolve(int folder, const char *path, char *absolute) {
    if (log_file < 0 || path == NULL) return 0;
    if (path[0] == '/') {
        snprintf(absolute, PATH_MAX, "%s", path);
        return is_inside(absolute);
    }
    char base[PATH_MAX], link[64];
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    if (snprintf(absolute, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    return is_inside(absolute);
}

/* Whether a descriptor is of a file or folder inside; gives its path and status. */
static int resolve_file(int file, char *path, struct stat *status) {
    if (log_file < 0 || file == log_file || fstat(file, status) != 0) return 0;
    if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode)) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_inside(path);
}

static void lock(void) {
    pthread_mutex_lock(&mutex);
    while (syscall(SYS_flock, log_file, LOCK_EX) != 0 && errno == EINTR) {
    }
}

static void unlock(void) {
    int error = errno;
    syscall(SYS_flock, log_file, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = error;
}

static void record(char op, uint64_t inode, int64_t offset, const char *path, const char *other, const void *data,
                   size_t size) {
    int error = errno;
    struct head head = {0, op, getpid(), inode, offset, strlen(path), strlen(other)};
    head.size = sizeof head + head.path + head.other + size;
    struct iovec parts[4] = {
        {&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other}, {(void *)data, size}};
    if (syscall(SYS_writev, log_file, parts, 4) != (long)head.size) abort();
    errno = error;
}

static uint64_t inode_of(const char *path) {
    struct stat status;
    return fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_ino : 0;
}

/* --- opening ------------------------------------------------------------------------------------------------- */

static int do_open(int folder, const char *path, int flags, mode_t mode) {
    char absolute[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !resolve(folder, path, absolute))
        return syscall(SYS_openat, folder, path, flags, mode);
    lock();
    uint64_t before = inode_of(absolute);
    int file = syscall(SYS_openat, folder, path, flags, mode);
    if (file >= 0) {
        if (before == 0) record('c', inode_of(absolute), 0, absolute, "", NULL, 0);
        else if (flags & O_TRUNC) record('t', before, 0, absolute, "", NULL, 0);
    }
    unlock();
    return file;
}

#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & O_CREAT) {                                                                                           \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return do_open(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return do_open(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* --- writing ------------------------------------------------------------------------------------------------- */

/* Carries out CALL, and records `result` bytes at OFFSET (-1: those before the descriptor's position), read back. */
#define WRITING(FILE, OFFSET, CALL)                                                                                    \
    char path[PATH_MAX];                                                                                               \
    struct stat status;                                                                                                \
    if (!resolve_file(FILE, path, &status)) return CALL;                                                               \
    lock();                                                                                                            \
    ssize_t result = CALL;                                                                                             \
    if (result > 0) record_write(FILE, status.st_ino, OFFSET, path, result);                                           \
    unlock();                                                                                                          \
    return result;

static void record_write(int file, uint64_t inode, int64_t offset, const char *path, size_t size) {
    int error = errno;
    if (offset < 0) offset = syscall(SYS_lseek, file, 0, SEEK_CUR) - (int64_t)size;
    char link[64], *data = malloc(size);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file); /* it may be open for writing only */
    int again = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    if (data == NULL || again < 0) abort();
    for (size_t done = 0; done < size;) {
        ssize_t more = syscall(SYS_pread64, again, data + done, size - done, offset + done);
        if (more <= 0) abort();
        done += more;
    }
    syscall(SYS_close, again);
    record('w', inode, offset, path, "", data, size);
    free(data);
    errno = error;
}

ssize_t write(int file, const void *data, size_t size) { WRITING(file, -1, syscall(SYS_write, file, data, size)) }
ssize_t writev(int file, const struct iovec *parts, int count) {
    WRITING(file, -1, syscall(SYS_writev, file, parts, count))
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    WRITING(file, offset, syscall(SYS_pwrite64, file, data, size, offset))
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    WRITING(file, offset, syscall(SYS_pwrite64, file, data, size, offset))
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
    WRITING(file, offset, syscall(SYS_pwritev, file, parts, count, offset, 0))
}
ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t offset) {
    WRITING(file, offset, syscall(SYS_pwritev, file, parts, count, offset, 0))
}
ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t offset, int flags) {
    WRITING(file, offset, syscall(SYS_pwritev2, file, parts, count, offset, 0, flags))
}
ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off64_t offset, int flags) {
    WRITING(file, offset, syscall(SYS_pwritev2, file, parts, count, offset, 0, flags))
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    WRITING(to, -1, syscall(SYS_sendfile, to, from, offset, size))
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    WRITING(to, -1, syscall(SYS_sendfile, to, from, offset, size))
}
ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags) {
    int64_t start = to_offset == NULL ? -1 : *to_offset;
    WRITING(to, start, syscall(SYS_copy_file_range, from, from_offset, to, to_offset, size, flags))
}
ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags) {
    int64_t start = to_offset == NULL ? -1 : *to_offset;
    WRITING(to, start, syscall(SYS_splice, from, from_offset, to, to_offset, size, flags))
}

static int do_resize(int file, long result_of_call(int, off64_t, off64_t, int), off64_t offset, off64_t size, int mode) {
    char path[PATH_MAX];
    struct stat status;
    if (!resolve_file(file, path, &status)) return result_of_call(file, offset, size, mode);
    lock();
    int result = result_of_call(file, offset, size, mode);
    if (result == 0 && fstat(file, &status) == 0)
        record(mode & ~FALLOC_FL_KEEP_SIZE ? 'x' : 't', status.st_ino, status.st_size, path, "fallocate", NULL, 0);
    unlock();
    return result;
}
static long call_ftruncate(int file, off64_t offset, off64_t size, int mode) {
    (void)offset, (void)mode;
    return syscall(SYS_ftruncate, file, size);
}
static long call_fallocate(int file, off64_t offset, off64_t size, int mode) {
    return syscall(SYS_fallocate, file, mode, offset, size);
}
int ftruncate(int file, off_t size) { return do_resize(file, call_ftruncate, 0, size, 0); }
int ftruncate64(int file, off64_t size) { return do_resize(file, call_ftruncate, 0, size, 0); }
int fallocate(int file, int mode, off_t offset, off_t size) { return do_resize(file, call_fallocate, offset, size, mode); }
int fallocate64(int file, int mode, off64_t offset, off64_t size) {
    return do_resize(file, call_fallocate, offset, size, mode);
}
int posix_fallocate(int file, off_t offset, off_t size) {
    return do_resize(file, call_fallocate, offset, size, 0) == 0 ? 0 : errno;
}
int posix_fallocate64(int file, off64_t offset, off64_t size) {
    return do_resize(file, call_fallocate, offset, size, 0) == 0 ? 0 : errno;
}
static int do_truncate(const char *path, off64_t size) {
    int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (file < 0) return -1;
    int result = ftruncate64(file, size), error = errno;
    syscall(SYS_close, file);
    errno = error;
    return result;
}
int truncate(const char *path, off_t size) { return do_truncate(path, size); }
int truncate64(const char *path, off64_t size) { return do_truncate(path, size); }

void *mmap64(void *address, size_t size, int protection, int flags, int file, off64_t offset) {
    char path[PATH_MAX];
    struct stat status;
    if (file >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) && resolve_file(file, path, &status)) {
        lock();
        record('x', status.st_ino, 0, path, "mmap", NULL, 0);
        unlock();
    }
    return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    return mmap64(address, size, protection, flags, file, offset);
}

/* --- names --------------------------------------------------------------------------------------------------- */

/* Carries out CALL, and records it. */
#define NAMING(OP, FOLDER, PATH, CALL)                                                                                 \
    char path[PATH_MAX];                                                                                               \
    if (!resolve(FOLDER, PATH, path)) return CALL;                                                                     \
    lock();                                                                                                            \
    int result = CALL;                                                                                                 \
    if (result == 0) record(OP, inode_of(path), 0, path, "", NULL, 0);                                                 \
    unlock();                                                                                                          \
    return result;

/* The same with two paths, of which both must be inside. */
#define MOVING(OP, FROM_FOLDER, FROM, TO_FOLDER, TO, CALL)                                                             \
    char path[PATH_MAX], other[PATH_MAX];                                                                              \
    int inside = resolve(FROM_FOLDER, FROM, path), both = resolve(TO_FOLDER, TO, other);                               \
    if (!inside && !both) return CALL;                                                                                 \
    lock();                                                                                                            \
    int result = CALL;                                                                                                 \
    if (result == 0) record(inside && both ? OP : 'x', inode_of(other), 0, path, other, NULL, 0);                      \
    unlock();                                                                                                          \
    return result;

int mkdir(const char *name, mode_t mode) { NAMING('d', AT_FDCWD, name, syscall(SYS_mkdirat, AT_FDCWD, name, mode)) }
int mkdirat(int folder, const char *name, mode_t mode) {
    NAMING('d', folder, name, syscall(SYS_mkdirat, folder, name, mode))
}
int unlink(const char *name) { NAMING('u', AT_FDCWD, name, syscall(SYS_unlinkat, AT_FDCWD, name, 0)) }
int unlinkat(int folder, const char *name, int flags) {
    NAMING('u', folder, name, syscall(SYS_unlinkat, folder, name, flags))
}
int rmdir(const char *name) { NAMING('u', AT_FDCWD, name, syscall(SYS_unlinkat, AT_FDCWD, name, AT_REMOVEDIR)) }
int remove(const char *name) {
    int result = unlink(name);
    return result != 0 && errno == EISDIR ? rmdir(name) : result;
}
int symlink(const char *to, const char *name) {
    NAMING('x', AT_FDCWD, name, syscall(SYS_symlinkat, to, AT_FDCWD, name))
}
int rename(const char *from, const char *to) {
    MOVING('r', AT_FDCWD, from, AT_FDCWD, to, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
}
int renameat(int a, const char *from, int b, const char *to) {
    MOVING('r', a, from, b, to, syscall(SYS_renameat2, a, from, b, to, 0))
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    MOVING(flags & RENAME_EXCHANGE ? 'x' : 'r', a, from, b, to, syscall(SYS_renameat2, a, from, b, to, flags))
}
int link(const char *from, const char *to) {
    MOVING('l', AT_FDCWD, from, AT_FDCWD, to, syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0))
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    MOVING('l', a, from, b, to, syscall(SYS_linkat, a, from, b, to, flags))
}

/* --- syncs --------------------------------------------------------------------------------------------------- */

/* Carries out CALL, and records it, with the time of modification if that is synced, too. */
#define SYNCING(FILE, TIME, CALL)                                                                                            \
    char path[PATH_MAX];                                                                                               \
    struct stat status;                                                                                                \
    if (!resolve_file(FILE, path, &status)) return CALL;                                                               \
    lock();                                                                                                            \
    int result = CALL;                                                                                                 \
    int64_t time = status.st_mtim.tv_sec * INT64_C(1000000000) + status.st_mtim.tv_nsec;                               \
    if (result == 0) record('s', status.st_ino, (TIME) ? time : 0, path, "", NULL, 0);                                 \
    unlock();                                                                                                          \
    return result;

int fsync(int file) { SYNCING(file, 1, syscall(SYS_fsync, file)) }
int fdatasync(int file) { SYNCING(file, 0, syscall(SYS_fdatasync, file)) }
