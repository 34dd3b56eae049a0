/** Remembers in this browser what the jobs were for, which the server does not list. */

const KEY = "creemson.asked";
const MAX_REMEMBERED = 300;
const QUIET = null; // of a job that the page started by itself, to describe a file

/** @returns {Map<string, string|null>} addresses by job */
function all() {
  try {
    return new Map(JSON.parse(localStorage.getItem(KEY)) ?? []);
  } catch {
    return new Map(); // storage is disabled, or holds something else
  }
}

/** @param {string} job
 *  @param {string|null} address of the view that it is for */
export function rememberAsked(job, address) {
  try {
    const entries = [...all()].filter(([one]) => one !== job);
    localStorage.setItem(KEY, JSON.stringify([...entries, [job, address]].slice(-MAX_REMEMBERED)));
  } catch {
    // storage is disabled
  }
}

/** A job that the page started by itself: the list of jobs leaves it out.
 *  @param {string} job */
export const rememberQuiet = (job) => rememberAsked(job, QUIET);

/** @param {object[]} jobs
 *  @returns {object[]} those that somebody asked for, with the `address` of the view if it is known */
export function withAddress(jobs) {
  const known = all();
  return jobs.filter(({ job }) => known.get(job) !== QUIET).map((entry) => ({ ...entry, address: known.get(entry.job) ?? "" }));
}
