/**
 * Stores what a reload would lose: the unfinished uploads, and the job that this tab is running. The files
 * themselves cannot be stored by a page.
 */

const UPLOADS_KEY = "creemson.unfinished";
const RUN_KEY = "creemson.run";

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

/** @typedef {{job: string, filename: string}} Run */

/** @returns {Run|null} the job that this tab was running when it was reloaded */
export function unfinishedRun() {
  try {
    const { job, filename } = JSON.parse(sessionStorage.getItem(RUN_KEY));
    return typeof job === "string" && typeof filename === "string" ? { job, filename } : null;
  } catch {
    return null;
  }
}

/** @param {Run} run accepted by the server; replaces the previous one */
export function rememberRun({ job, filename }) {
  try {
    sessionStorage.setItem(RUN_KEY, JSON.stringify({ job, filename }));
  } catch {
    // storage is disabled: a reload loses the run
  }
}

/** @param {string|null} job that has ended */
export function forgetRun(job) {
  if (unfinishedRun()?.job === job) sessionStorage.removeItem(RUN_KEY);
}

function change(edit) {
  try {
    const all = unfinishedUploads();
    edit(all);
    localStorage.setItem(UPLOADS_KEY, JSON.stringify(all));
  } catch {
    // storage is disabled: a reload loses the list of unfinished uploads
  }
}
