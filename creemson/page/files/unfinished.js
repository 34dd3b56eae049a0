/** Remembers the unfinished uploads over a reload. The files themselves cannot be stored by a page. */

const UPLOADS_KEY = "creemson.unfinished";

/** @typedef {{size: number, modified: number, offset: number}} Unfinished
 *   size of the file in bytes, its modification time in ms since 1970, and the bytes that the server has stored */

/** @returns {Object<string, Unfinished>} the unfinished uploads by filename */
export function unfinishedUploads() {
  try {
    return JSON.parse(localStorage.getItem(UPLOADS_KEY)) ?? {};
  } catch {
    return {}; // storage is disabled, or holds something else under this key
  }
}

/** @param {File} file
 *  @param {number} offset bytes that the server has stored */
export function rememberUpload(file, offset) {
  change((all) => (all[file.name] = { size: file.size, modified: file.lastModified, offset }));
}

/** @param {string} name of a file whose upload has finished or was given up */
export function forgetUpload(name) {
  change((all) => delete all[name]);
}

/** @param {File} file
 *  @param {Unfinished} entry
 *  @returns {boolean} whether size and modification time match; a page cannot check more */
export const isSame = (file, { size, modified }) => file.size === size && file.lastModified === modified;

function change(edit) {
  try {
    const all = unfinishedUploads();
    edit(all);
    localStorage.setItem(UPLOADS_KEY, JSON.stringify(all));
  } catch {
    // storage is disabled: a reload loses the list of unfinished uploads
  }
}
