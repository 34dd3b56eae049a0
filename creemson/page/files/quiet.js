/** Jobs that the page starts by itself, to describe a file: the list of jobs leaves them out. */

const KEY = "creemson.quiet";
const MAX_REMEMBERED = 300;

/** @returns {string[]} */
function all() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(found) ? found : [];
  } catch {
    return []; // storage is disabled: the list shows them
  }
}

/** @param {string} job */
export function rememberQuiet(job) {
  try {
    localStorage.setItem(KEY, JSON.stringify([...all().filter((one) => one !== job), job].slice(-MAX_REMEMBERED)));
  } catch {
    // storage is disabled
  }
}

/** @param {{job: string}[]} jobs
 *  @returns {object[]} those that somebody asked for */
export function withoutQuiet(jobs) {
  const quiet = new Set(all());
  return jobs.filter(({ job }) => !quiet.has(job));
}
