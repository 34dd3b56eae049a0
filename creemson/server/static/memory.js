/** What a reload would forget: the uploads that were begun and not finished. The files themselves no page may keep. */

const KEY = "creemson.unfinished";

/** @typedef {{size: number, modified: number, offset: number}} Unfinished bytes; ms since 1970; bytes on the server */

/** @returns {Object<string, Unfinished>} by name */
export function unfinished() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // no storage, or somebody else's words in it
  }
}

/** @param {File} file
 *  @param {number} offset bytes that the server holds */
export function remember(file, offset) {
  change((all) => (all[file.name] = { size: file.size, modified: file.lastModified, offset }));
}

/** @param {string} name of a file that is finished or given up */
export function forget(name) {
  change((all) => delete all[name]);
}

/** @param {File} file
 *  @param {Unfinished} entry
 *  @returns {boolean} whether it is the file that was begun, as far as a page can tell */
export const isSame = (file, { size, modified }) => file.size === size && file.lastModified === modified;

function change(act) {
  try {
    const all = unfinished();
    act(all);
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // without storage, only a reload is forgotten
  }
}
