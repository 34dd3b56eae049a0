/**
 * The browser's side of the Creemson wire protocol, version 1: one module, no dependencies.
 *
 * A client connects in the background and comes back by itself when the connection breaks; whatever was in
 * flight is asked again, uploads and downloads go on where they were, jobs are followed from their last event
 * on. Sizes and offsets are bytes, delays are milliseconds, times of the server are seconds since 1970 UTC.
 *
 *     import { connect } from "./creemson.js";
 *     const client = connect();
 *     const { promise } = client.process({ filename: "flights.csv", selectedColumns: [0, "carrier"] });
 *     console.log((await promise).output_data.rows);
 */

const SUBPROTOCOL = "creemson.v1";
const BACKOFF = { base: 250, cap: 15_000 };
const STABLE = 5_000; // a connection that lived this long was a good one: the backoff begins anew
const CONNECT_TIMEOUT = 15_000;
const SILENCE = 20_000; // after it we ping, and after it once more we give the connection up
const TICK = 1_000;
const HIGH_WATER = 4 * 2 ** 20; // what may wait in the socket, so that a message can still overtake an upload
const POLL = 20;
const DIGEST_LIMIT = 64 * 2 ** 20; // crypto.subtle wants all bytes in memory at once
const DEFAULT_CHUNK = 2 ** 18;
const FATAL_CLOSES = new Set([4401, 4403]); // asking again would get the same answer
const TRY_LATER = new Set(["busy", "shutting_down"]);
const GOING = new Set(["connection_lost", "shutting_down"]); // the server is about to leave, and its jobs stay

/**
 * What went wrong, in the server's words or in ours.
 *
 * @property {number} code message family: 1001 connection lost, 1002 invalid format, 1003 processing error
 * @property {string} reason slug, e.g. "file_not_found"
 * @property {boolean} retryable whether the same request may succeed later
 * @property {string[]} details one line for each fault of an invalid message
 * @property {number|null} retryAfter seconds to wait before asking again
 */
export class CreemsonError extends Error {
  constructor({ message, code, reason, retryable = false, details = [], retry_after: retryAfter = null }) {
    super(message);
    this.name = "CreemsonError";
    Object.assign(this, { code, reason, retryable, details: details ?? [], retryAfter });
  }
}

const cancelled = () => new CreemsonError({ code: 1003, reason: "cancelled", message: "Cancelled, as asked." });
const lost = (message) => new CreemsonError({ code: 1001, reason: "connection_lost", retryable: true, message });

/** Call what the page gave us; a fault of its own shows up on its console and does not disturb the wire. */
function tell(callback, ...args) {
  try {
    callback?.(...args);
  } catch (error) {
    reportError(error);
  }
}

/**
 * Integers that a number would round are BigInts. A browser that does not show us the source of a number rounds them,
 * as it always did. Looking at every value is slow, so only messages that may hold one are looked at.
 */
function decode(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => {
    const rounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return rounded && /^-?\d+$/.test(context?.source) ? BigInt(context.source) : value;
  });
}

/** SHA-256 in hexadecimal; null where it cannot be had (insecure context, or more than fits in memory). */
async function digest(blob) {
  if (blob.size > DIGEST_LIMIT || !globalThis.crypto?.subtle) return null;
  const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Something that awaits answers, over as many connections as it takes. `id` is null while it is not asked. */
class Entry {
  id = null;
  settled = false;

  constructor(wire) {
    this.wire = wire;
    this.promise = new Promise((resolve, reject) => Object.assign(this, { _resolve: resolve, _reject: reject }));
  }

  /** The message to send once the connection is open, without `id`; null to wait. */
  fields() {
    return null;
  }

  /** The connection has broken; all that was said over it is void. */
  lost() {}

  resolve(value) {
    this.#settle();
    this._resolve(value);
  }

  reject(error) {
    this.#settle();
    this._reject(error);
  }

  #settle() {
    if (this.settled) return;
    this.settled = true;
    this.wire.forget(this);
    this.ended?.();
  }
}

/** A request with one answer. */
class Ask extends Entry {
  sent = 0;

  constructor(wire, message, accept = () => false) {
    super(wire);
    Object.assign(this, { message, accept });
  }

  fields() {
    this.sent += 1;
    return this.message;
  }

  handle(message) {
    if (message.type !== "error") this.resolve(message);
    else if (this.accept(message, this.sent)) this.resolve(null);
    else this.reject(new CreemsonError(message));
  }
}

/** A job. The server has written it down before it was accepted, so that we can follow it over any connection. */
class Job extends Entry {
  #query; // null: it was begun elsewhere
  #job;
  #seq; // of the last event that has come
  #callbacks;
  #attached = false;
  #cancelled = false;

  constructor(wire, { query = null, job = null, after = 0 }, callbacks) {
    super(wire);
    this.#query = query;
    this.#job = job;
    this.#seq = after;
    this.#callbacks = callbacks;
  }

  fields() {
    this.#attached = this.#job !== null;
    if (this.#attached) return { type: "attach", job: this.#job, after: this.#seq };
    return { ...this.#query, type: "process" };
  }

  handle(message) {
    const { onAccepted, onProgress, onLog } = this.#callbacks;
    this.#seq = message.seq ?? this.#seq;
    if (message.type === "accepted") {
      this.#job = message.job;
      tell(onAccepted, message.job, message.position);
    } else if (message.type === "progress") tell(onProgress, message);
    else if (message.type === "log") tell(onLog, message);
    else if (message.type === "result") this.resolve(message.data);
    else if (message.type === "error") this.#failed(message);
  }

  lost() {
    if (this.#cancelled) this.#abandon();
  }

  cancel() {
    if (this.settled || this.#cancelled) return;
    this.#cancelled = true;
    if (this.id === null) return this.#abandon();
    // Attached, the server may still count the connection that we have lost as another one who waits.
    const which = this.#attached ? { job: this.#job } : { request: this.id };
    this.wire.send({ type: "cancel", id: this.wire.newId(), ...which });
  }

  #failed(message) {
    const forgotten = message.reason === "job_not_found" && this.#attached;
    // An error that has a number is an event of the job's, its end; any other is about this request.
    if (message.seq !== undefined) this.reject(new CreemsonError(message));
    else if (GOING.has(message.reason)) this.#wait();
    else if (forgotten && this.#cancelled) this.reject(cancelled());
    else if (forgotten && this.#query) this.#afresh();
    else this.reject(new CreemsonError(message));
  }

  /** The server closes the connection in a moment; over the next one we go on. */
  #wait() {
    this.wire.release(this);
    this.lost();
  }

  /** The server has lost its memory, or is another one at the same address. */
  #afresh() {
    this.#job = null;
    this.#seq = 0;
    this.wire.release(this);
    this.wire.start(this);
  }

  /** Nobody is there to confirm it; the job lives on without us unless we cancel it when we are back. */
  #abandon() {
    if (this.#job) {
      const ask = new Ask(this.wire, { type: "cancel", job: this.#job }, () => true);
      ask.promise.catch(() => {}); // the page has its answer already
      this.wire.add(ask);
    }
    this.reject(cancelled());
  }
}

/** What uploads and downloads have in common: a place in a queue, an end by abort(), and retries. */
class Transfer extends Entry {
  /** It is its turn. */
  begin() {
    this.wire.add(this);
  }

  abort() {
    if (!this.settled) this.quit(cancelled());
  }

  /** Give up: the server is told if it knows of us. */
  quit(error) {
    if (this.id !== null) this.wire.send({ type: "cancel", id: this.wire.newId(), request: this.id });
    this.reject(error);
  }

  failed(message) {
    if (!TRY_LATER.has(message.reason)) return this.reject(new CreemsonError(message));
    this.wire.release(this);
    this.lost();
    setTimeout(() => this.wire.start(this), (message.retry_after ?? 1) * 1000);
  }
}

class Upload extends Transfer {
  paused = false;
  #file;
  #message;
  #onProgress;
  #ready = false; // the digest is computed
  #going = false; // the server has said where to go on
  #sent = 0;
  #safe = 0;
  #run = null; // the sending loop that counts; any other stops at its next step
  #whole = false; // all bytes were sent once
  #ours; // what the server holds is known to be of this very file

  constructor(wire, file, name, overwrite, resume, onProgress) {
    super(wire);
    this.#file = file;
    this.#message = { type: "upload", filename: name, size: file.size, overwrite };
    this.#ours = resume;
    this.#onProgress = onProgress;
  }

  async begin() {
    try {
      const sha256 = await digest(this.#file);
      if (sha256) this.#message.sha256 = sha256;
    } catch (error) {
      return this.#unreadable(error);
    }
    this.#ready = true;
    if (!this.settled) super.begin();
  }

  fields() {
    return this.#ready && !this.paused ? this.#message : null;
  }

  handle(message) {
    if (message.type === "upload_ready") {
      if (message.offset && !this.#ours && !this.#message.sha256) return this.#afresh();
      this.#ours = true;
      this.#going = true;
      this.#progress(message.offset, message.offset);
      this.#pump();
    } else if (message.type === "upload_progress") {
      this.#progress(this.#sent, message.offset);
      this.#run?.wake?.(); // timers of a hidden page are slow, messages are not
    } else if (message.type === "uploaded") {
      this.#progress(message.size, message.size);
      this.resolve(message);
    } else if (message.type === "error") {
      if (message.reason === "file_exists" && this.#whole) this.#arrived(new CreemsonError(message));
      else this.failed(message);
    }
  }

  lost() {
    this.#run = null;
    this.#going = false;
  }

  pause() {
    this.paused = true;
    this.#run = null;
  }

  resume() {
    if (!this.paused || this.settled) return;
    this.paused = false;
    if (this.#going) this.#pump();
    else this.wire.start(this);
  }

  reject(error) {
    this.lost();
    super.reject(error);
  }

  #progress(sent, safe) {
    this.#sent = sent;
    this.#safe = safe;
    this.#whole ||= sent === this.#file.size;
    tell(this.#onProgress, { offset: sent, safe, size: this.#file.size });
  }

  /** The server holds a part of a file of this name and size, and nobody can tell whether of this one. */
  #afresh() {
    this.#ours = true; // that part is dropped; any other will be our own
    this.wire.send({ type: "cancel", id: this.wire.newId(), request: this.id });
    this.wire.release(this);
    this.wire.start(this);
  }

  /** The name was free when we began and is taken now: by our own bytes, if only `uploaded` got lost on its way. */
  async #arrived(refusal) {
    const { filename, size, sha256 } = this.#message;
    const ask = async (message) => {
      const question = new Ask(this.wire, message);
      this.wire.add(question);
      return question.promise;
    };
    this.wire.forget(this);
    try {
      const found = (await ask({ type: "files" })).files.find((file) => file.filename === filename);
      if (found?.size !== size || (sha256 && found.sha256 && found.sha256 !== sha256)) throw refusal;
      const columns = await ask({ type: "columns", filename }).then((answer) => answer.columns, () => []);
      this.resolve({ type: "uploaded", filename, size, sha256: found.sha256 ?? sha256 ?? null, columns });
    } catch (error) {
      this.reject(error);
    }
  }

  #unreadable(error) {
    if (this.settled) return;
    const message = `${this.#file.name ?? "The file"} could not be read: ${error.message} Choose it again.`;
    this.quit(new CreemsonError({ code: 1003, reason: "unreadable_file", message }));
  }

  async #pump() {
    if (this.paused || this.settled) return;
    const run = (this.#run = {});
    while (this.#run === run && this.#sent < this.#file.size) {
      if (this.wire.buffered > HIGH_WATER) {
        await new Promise((resolve) => {
          run.wake = resolve;
          setTimeout(resolve, POLL);
        });
        continue;
      }
      const chunk = await this.#read(run);
      if (this.#run !== run) return;
      this.wire.sendBytes(chunk);
      this.#progress(this.#sent + chunk.byteLength, this.#safe);
    }
  }

  async #read(run) {
    try {
      return await this.#file.slice(this.#sent, this.#sent + this.wire.chunkBytes).arrayBuffer();
    } catch (error) {
      if (this.#run === run) this.#unreadable(error);
    }
  }
}

class Download extends Transfer {
  #filename;
  #onProgress;
  #receiving = false; // frames before the `download` message belong to one that was given up
  #parts = [];
  #received = 0;
  #size = null;
  #sha256 = null;

  constructor(wire, filename, onProgress) {
    super(wire);
    this.#filename = filename;
    this.#onProgress = onProgress;
  }

  fields() {
    return { type: "download", filename: this.#filename, offset: this.#received };
  }

  handle(message) {
    if (message.type === "download") this.#started(message);
    else if (message.type === "downloaded") this.#finish(message);
    else if (message.type !== "error") return;
    else if (message.reason === "offset_mismatch" && this.#received) this.#afresh();
    else this.failed(message);
  }

  lost() {
    this.#receiving = false;
  }

  /** A frame of the file; Blobs, which the browser may keep outside of memory. */
  bytes(part) {
    if (!this.#receiving) return;
    this.#parts.push(part);
    this.#received += part.size;
    this.#progress();
  }

  #progress() {
    tell(this.#onProgress, { offset: this.#received, size: this.#size });
  }

  #started({ size, sha256 = null }) {
    const other = size !== this.#size || (sha256 && this.#sha256 && sha256 !== this.#sha256);
    if (this.#received && other) {
      this.wire.send({ type: "cancel", id: this.wire.newId(), request: this.id });
      return this.#afresh();
    }
    this.#size = size;
    this.#sha256 = sha256 ?? this.#sha256;
    this.#receiving = true;
    this.#progress();
  }

  /** The file is another one than it was before the connection broke. */
  #afresh() {
    this.wire.release(this);
    this.#parts = [];
    this.#received = 0;
    this.#size = this.#sha256 = null;
    this.lost();
    this.wire.start(this);
  }

  async #finish({ size, sha256 }) {
    this.wire.forget(this); // the server has said all; what follows is between us and the bytes
    const blob = new Blob(this.#parts);
    const fault = (reason, message) => this.reject(new CreemsonError({ code: 1003, reason, retryable: true, message }));
    if (blob.size !== size) {
      return fault("size_mismatch", `${blob.size} bytes of ${this.#filename} came, it has ${size}. Try again.`);
    }
    const found = await digest(blob).catch(() => null);
    if (this.settled) return;
    if (found && sha256 && found !== sha256.toLowerCase()) {
      return fault("checksum_mismatch", `The bytes of ${this.#filename} are not those of the server. Try again.`);
    }
    this.resolve(blob);
  }
}

/** Transfers in one direction: one at a time, in the order in which they were asked for. */
class Lane {
  #queue = [];

  get head() {
    return this.#queue[0];
  }

  add(transfer) {
    transfer.ended = () => this.#ended(transfer);
    this.#queue.push(transfer);
    if (transfer === this.head) transfer.begin();
  }

  clear(error) {
    for (const transfer of [...this.#queue].reverse()) transfer.reject(error); // so that none gets its turn
  }

  #ended(transfer) {
    const wasHead = transfer === this.head;
    this.#queue = this.#queue.filter((other) => other !== transfer);
    if (wasHead) this.head?.begin();
  }
}

/** The connection: it comes back, it notices when it is dead, and it knows who awaits what. */
class Wire {
  state = null;
  welcome = null;
  #url;
  #hello;
  #events;
  #socket = null;
  #open = false;
  #entries = new Set(); // all that await something, in the order of asking
  #byId = new Map(); // those that were asked over this connection
  #number = 0;
  #attempt = 0;
  #timer = null;
  #ticker;
  #listening = new AbortController();
  #since = 0; // when this connection was begun, or was open
  #heard = 0;
  #pinged = null;
  #sent = 0; // bytes of files given to the socket, and
  #left = 0; // those that have left it
  #lastError = null;
  #notBefore = 0; // delay that the server asked for

  constructor(url, hello, events) {
    this.#url = url;
    this.#hello = hello;
    this.#events = events;
    const { signal } = this.#listening;
    globalThis.addEventListener?.("online", () => this.#hurry(), { signal });
    const page = globalThis.document;
    page?.addEventListener("visibilitychange", () => page.visibilityState === "visible" && this.#hurry(), { signal });
    this.#ticker = setInterval(() => this.#tick(), TICK);
    this.connect();
  }

  get chunkBytes() {
    return this.welcome?.limits?.chunk_bytes ?? DEFAULT_CHUNK;
  }

  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  newId() {
    this.#number += 1;
    return String(this.#number);
  }

  // --- what awaits answers ---

  add(entry) {
    if (this.state.state === "closed") return entry.reject(this.#lastError ?? lost("The client is closed."));
    this.#entries.add(entry);
    this.start(entry);
  }

  /** Ask, unless it was asked already or cannot be now; then it is when the connection is open. */
  start(entry) {
    if (!this.#open || entry.id !== null || !this.#entries.has(entry)) return;
    const fields = entry.fields();
    if (!fields) return;
    const id = this.newId();
    const text = JSON.stringify({ ...fields, id });
    const limit = this.welcome.limits?.message_bytes ?? Infinity;
    if (text.length * 3 > limit && new TextEncoder().encode(text).length > limit) {
      // The server would close the connection, and we would ask again for ever.
      const message = `A message of this size is not taken, at most ${limit} bytes are. Ask for less at a time.`;
      return entry.reject(new CreemsonError({ code: 1002, reason: "message_too_large", message }));
    }
    entry.id = id;
    this.#byId.set(id, entry);
    this.#socket.send(text);
  }

  /** No answer to what was asked is of interest any more; it may be asked again. */
  release(entry) {
    this.#byId.delete(entry.id);
    entry.id = null;
  }

  forget(entry) {
    this.release(entry);
    this.#entries.delete(entry);
  }

  send(message) {
    if (this.#open) this.#socket.send(JSON.stringify(message));
  }

  sendBytes(bytes) {
    this.#sent += bytes.byteLength;
    this.#socket.send(bytes);
  }

  // --- the life of a connection ---

  connect() {
    clearTimeout(this.#timer);
    const socket = (this.#socket = new WebSocket(this.#url, SUBPROTOCOL));
    this.#since = performance.now();
    this.#lastError = null;
    this.#notBefore = 0;
    // A socket that was given up may still speak for a while; nobody listens.
    const current = (handler) => (event) => socket === this.#socket && handler(event);
    socket.onopen = current(() => socket.send(JSON.stringify({ ...this.#hello, id: "hello" })));
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current(({ code }) => this.#lose(code));
    this.#setState("connecting");
  }

  reconnectNow() {
    if (this.state.state === "waiting") this.connect();
  }

  close(error = null) {
    if (this.state.state === "closed") return;
    this.#listening.abort();
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.#drop();
    this.#lastError = error;
    this.#setState("closed", { error });
    const reason = error ?? lost("The client was closed.");
    this.#events.closed(reason);
    for (const entry of [...this.#entries]) entry.reject(reason);
  }

  #setState(state, more = {}) {
    this.state = { state, retryIn: null, attempt: state === "open" ? 0 : this.#attempt, ...more };
    this.#events.state(this.state);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    socket?.close();
    this.#byId.clear();
    for (const entry of [...this.#entries]) {
      entry.id = null;
      entry.lost();
    }
  }

  #lose(code) {
    const stable = this.#open && performance.now() - this.#since > STABLE;
    this.#drop();
    if (FATAL_CLOSES.has(code)) {
      const message = "The server does not let us in. Give a valid token.";
      return this.close(this.#lastError ?? new CreemsonError({ code: 1002, reason: "unauthenticated", message }));
    }
    this.#attempt = stable ? 1 : this.#attempt + 1;
    // Full jitter, for the first time and after what the server asked for, too: all its clients lose it at once.
    const ceiling = Math.min(BACKOFF.cap, BACKOFF.base * 2 ** (this.#attempt - 1));
    const retryIn = this.#notBefore + Math.random() * ceiling;
    this.#timer = setTimeout(() => this.connect(), retryIn);
    this.#setState("waiting", { retryIn });
  }

  /** The network is back, or somebody looks at the page. */
  #hurry() {
    this.reconnectNow();
    if (this.#open && this.#pinged === null) this.#ping();
  }

  #ping() {
    this.#pinged = performance.now();
    this.send({ type: "ping" });
  }

  /** Timers of a hidden page may be minutes late, so silence counts only from a ping on. */
  #tick() {
    const now = performance.now();
    if (!this.#socket) return;
    if (!this.#open) return now - this.#since > CONNECT_TIMEOUT ? this.#lose() : undefined;
    const left = this.#sent - this.buffered;
    if (left > this.#left) this.#alive(); // on a slow link, a pong waits behind megabytes of an upload
    this.#left = left;
    if (this.#pinged !== null) return now - this.#pinged > SILENCE ? this.#lose() : undefined;
    if (now - this.#heard > SILENCE) this.#ping();
  }

  #alive() {
    this.#heard = performance.now();
    this.#pinged = null;
  }

  // --- what the server says ---

  #receive(data) {
    this.#alive();
    if (typeof data !== "string") return this.#events.bytes(data);
    const message = decode(data);
    if (message.type === "welcome") return this.#welcomed(message);
    const entry = this.#byId.get(message.id);
    if (entry && message.reason === "rate_limited") return this.#later(entry, message);
    if (entry) return entry.handle(message);
    if (message.type === "error") this.#error(message);
  }

  /** Too much at once: ask again when the server says so, and not all in the same moment. */
  #later(entry, { retry_after: seconds = 0.1 }) {
    this.release(entry);
    entry.lost();
    setTimeout(() => this.start(entry), seconds * 1000 * (1 + Math.random()));
  }

  #welcomed(message) {
    this.welcome = message;
    this.#open = true;
    this.#since = performance.now();
    this.#sent = this.#left = 0;
    this.#setState("open");
    for (const entry of [...this.#entries]) this.start(entry);
  }

  #error(message) {
    const error = new CreemsonError(message);
    if (message.id === "hello") {
      this.#lastError = error;
      if (!error.retryable) this.close(error);
    } else if (message.id === undefined && message.reason !== "unexpected_binary") {
      // Chunks that were on their way when the server ended an upload are "unexpected"; the upload has its error.
      this.#lastError = error;
      this.#notBefore = (error.retryAfter ?? 0) * 1000;
      this.#events.error(error);
    }
  }
}

/**
 * A connection to a server, for as long as it is wanted.
 *
 * Events: `state` with the new state as detail, and `error` with a {@link CreemsonError} that belongs to no request.
 */
export class Client extends EventTarget {
  #wire;
  #uploads = new Lane();
  #downloads = new Lane();

  constructor(url, { token, name } = {}) {
    super();
    const emit = (type) => (detail) => this.dispatchEvent(new CustomEvent(type, { detail }));
    this.#wire = new Wire(url, { type: "hello", version: 1, client: name, token: token || undefined, batch: false }, {
      state: emit("state"),
      error: emit("error"),
      bytes: (part) => this.#downloads.head?.bytes(part),
      closed: (error) => [this.#uploads, this.#downloads].forEach((lane) => lane.clear(error)),
    });
  }

  /** @returns {{state: "connecting"|"open"|"waiting"|"closed", retryIn: number|null, attempt: number,
   *   error?: CreemsonError|null}} ms until the next attempt; losses in a row; why it is closed, null if by close() */
  get state() {
    return this.#wire.state;
  }

  /** @returns {object|null} the last `welcome` of the server */
  get welcome() {
    return this.#wire.welcome;
  }

  /** Try at once instead of waiting. */
  reconnectNow() {
    this.#wire.reconnectNow();
  }

  /** The end: whatever is in flight rejects with reason "connection_lost". */
  close() {
    this.#wire.close();
  }

  /** @param {string} filename
   *  @returns {Promise<{index: number, name: string, dtype: string}[]>} */
  async columns(filename) {
    return (await this.#ask({ type: "columns", filename })).columns;
  }

  /** The columns of a file, how it is read, and what had to be mended in its first 64 KiB.
   *  @param {string} filename
   *  @param {object|null} [options] how to read it, where that is not to be found out
   *  @returns {Promise<{columns: {index: number, name: string, dtype: string}[], reading: object|null,
   *   issues: object|null}>} */
  async describe(filename, options = null) {
    const { columns, reading = null, issues = null } = await this.#ask({
      type: "columns",
      filename,
      ...(options && { options }),
    });
    return { columns, reading, issues };
  }

  /** @returns {Promise<{filename: string, size: number, modified: number, sha256?: string}[]>} bytes; seconds */
  async files() {
    return (await this.#ask({ type: "files" })).files;
  }

  /** Delete an uploaded file.
   *  @param {string} filename */
  async remove(filename) {
    // Asked for the second time, a file that is missing is one that we deleted before the connection broke.
    await this.#ask({ type: "delete", filename }, ({ reason }, sent) => reason === "file_not_found" && sent > 1);
  }

  /** A window on a table.
   *  @param {string} filename an output or an uploaded file
   *  @param {number} offset rows to skip
   *  @param {number} limit rows, at most 1000
   *  @returns {Promise<{columns: string[], rows: any[][], offset: number, total: number|null}>} */
  async rows(filename, offset, limit) {
    const { columns, rows, offset: from, total = null } = await this.#ask({ type: "rows", filename, offset, limit });
    return { columns, rows, offset: from, total };
  }

  /** @returns {Promise<{job: string, state: "queued"|"running"|"done"|"failed"|"cancelled", filename: string,
   *   created: number, finished?: number, rows?: number}[]>} newest first */
  async jobs() {
    return (await this.#ask({ type: "jobs" })).jobs;
  }

  /** Stop a job for all who wait for it.
   *  @param {string} job */
  async cancel(job) {
    // Asked for the second time, a job that has ended is one that we stopped before the connection broke.
    await this.#ask({ type: "cancel", job }, ({ reason }, sent) => reason === "job_not_found" && sent > 1);
  }

  /**
   * Have a file processed.
   *
   * @param {object} query the fields of a `process` message: filename, options, selectedColumns, where, sort, …
   * @param {object} [callbacks] onAccepted(job, position), once more if the server has forgotten the job and it is
   *   asked for again; onProgress(message) with bytes_read, fraction (0–1), rows_per_s, eta_s (seconds) …;
   *   onLog(message) with level and message
   * @returns {{promise: Promise<object>, cancel: function(): void}} the result's `data`; `cancel` leaves the job to
   *   others who wait for it, but after a reconnection stops it for all
   */
  process(query, { onAccepted, onProgress, onLog } = {}) {
    return this.#follow({ query }, { onAccepted, onProgress, onLog });
  }

  /**
   * Follow a job that was begun elsewhere, or before a reload; of one that has ended, the result comes again.
   *
   * @param {string} job as `onAccepted` and `jobs()` name it
   * @param {object} [options] after: number (`seq`) of the last event that is known already; onProgress and onLog as
   *   for `process`
   * @returns {{promise: Promise<object>, cancel: function(): void}} the result's `data`; `cancel` stops the job for
   *   all who wait for it
   */
  attach(job, { after = 0, onProgress, onLog } = {}) {
    return this.#follow({ job, after }, { onProgress, onLog });
  }

  /**
   * Upload a file; another upload that is under way comes first.
   *
   * @param {File|Blob} file
   * @param {object} [options] name on the server (default: the file's own); overwrite a file of that name (default:
   *   no); resume an earlier upload of that name and size (default: yes; say no if its content may have been another:
   *   the server can tell only where there is a digest); onProgress({offset, safe, size}): bytes sent, bytes on the
   *   server's disk, bytes of the file
   * @returns {{promise: Promise<object>, pause: function(): void, resume: function(): void,
   *   abort: function(): void, paused: boolean}} the promise is for filename, size, sha256 and columns
   */
  upload(file, { name = file.name, overwrite = false, resume = true, onProgress } = {}) {
    const upload = new Upload(this.#wire, file, name, overwrite, resume, onProgress);
    this.#uploads.add(upload);
    return {
      promise: upload.promise,
      pause: () => upload.pause(),
      resume: () => upload.resume(),
      abort: () => upload.abort(),
      get paused() {
        return upload.paused;
      },
    };
  }

  /**
   * Download an uploaded file or an output; another download that is under way comes first.
   *
   * @param {string} filename
   * @param {object} [options] onProgress({offset, size}): bytes received, bytes of the file
   * @returns {{promise: Promise<Blob>, abort: function(): void}}
   */
  download(filename, { onProgress } = {}) {
    const download = new Download(this.#wire, filename, onProgress);
    this.#downloads.add(download);
    return { promise: download.promise, abort: () => download.abort() };
  }

  #follow(what, callbacks) {
    const job = new Job(this.#wire, what, callbacks);
    this.#wire.add(job);
    return { promise: job.promise, cancel: () => job.cancel() };
  }

  #ask(message, accept) {
    const ask = new Ask(this.#wire, message, accept);
    this.#wire.add(ask);
    return ask.promise;
  }
}

/**
 * Connect to a server; returns at once.
 *
 * @param {string|URL} [url] default: `ws` beside this page
 * @param {object} [options] token: what the server wants to see; name: of this client, for the server's log
 * @returns {Client}
 */
export function connect(url, options = {}) {
  const target = new URL(url ?? "ws", globalThis.document?.baseURI ?? globalThis.location?.href);
  target.protocol = target.protocol.replace(/^http/, "ws");
  return new Client(target, options);
}
