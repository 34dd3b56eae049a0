/**
 * What a reload would forget: the uploads that were begun and not finished, and the run that is under way. The files
 * themselves no page may keep.
 */

const KEY = "creemson.unfinished";
const RUN = "creemson.run";

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

/** @typedef {{job: string, filename: string}} Run */

/** @returns {Run|null} the run of this tab that had not ended when it was reloaded */
export function unfinishedRun() {
  try {
    const { job, filename } = JSON.parse(sessionStorage.getItem(RUN));
    return typeof job === "string" && typeof filename === "string" ? { job, filename } : null;
  } catch {
    return null;
  }
}

/** @param {Run} run that the server has accepted; the one before it is forgotten */
export function rememberRun({ job, filename }) {
  try {
    sessionStorage.setItem(RUN, JSON.stringify({ job, filename }));
  } catch {
    // as above
  }
}

/** @param {string|null} job that has ended */
export function forgetRun(job) {
  if (unfinishedRun()?.job === job) sessionStorage.removeItem(RUN);
}

function change(act) {
  try {
    const all = unfinished();
    act(all);
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // without storage, only a reload is forgotten
  }
}
