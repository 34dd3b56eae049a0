/** Remembers in this browser what the jobs were for, which the server does not list. */

const KEY = "creemson.asked";
const MAX_REMEMBERED = 300;
const QUIET = null; // of a job that the page started by itself, to describe a file

/** @returns {Map<string, string|null>} words by job */
function all() {
  try {
    return new Map(JSON.parse(localStorage.getItem(KEY)) ?? []);
  } catch {
    return new Map(); // storage is disabled, or holds something else
  }
}

/** @param {string} job
 *  @param {string|null} words what it is for */
export function rememberAsked(job, words) {
  try {
    const entries = [...all()].filter(([one]) => one !== job);
    localStorage.setItem(KEY, JSON.stringify([...entries, [job, words]].slice(-MAX_REMEMBERED)));
  } catch {
    // storage is disabled
  }
}

/** A job that the page started by itself: the list of jobs leaves it out.
 *  @param {string} job */
export const rememberQuiet = (job) => rememberAsked(job, QUIET);

/** @param {object[]} jobs
 *  @returns {object[]} those that somebody asked for, with `asked` if it is known what for */
export function withWords(jobs) {
  const words = all();
  return jobs.filter(({ job }) => words.get(job) !== QUIET).map((entry) => ({ ...entry, asked: words.get(entry.job) }));
}
