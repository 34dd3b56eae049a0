/** What is wrong in the whole file: how much was repaired or lost, with reasons, and what has become of it in a corrected file. */

import { button, byId, save } from "../dom.js";
import { counted, whole } from "../format.js";
import { showIssues } from "../reading/issues.js";

/** The problems of the open file. */
export class Findings {
  #work;
  #earlier = new Map(); // number of problems by file, as it was before its latest upload

  /** @param {import("./work.js").Work} work */
  constructor(work) {
    this.#work = work;
  }

  /** Show what has been found so far, until the whole file has been read.
   *  @param {object|null|undefined} issues of the beginning of the file */
  expect(issues) {
    showIssues(byId("view-issues"), issues, { title: "Problems in the first 64 KiB" });
    byId("view-repaired").hidden = true;
  }

  /** @param {string} file
   *  @param {object|null|undefined} issues of the whole file */
  show(file, issues) {
    showIssues(byId("view-issues"), issues, {
      title: "Problems in the file",
      link: (name, text) => button(text, () => this.#download(name, file)),
    });
    const now = countOf(issues);
    const before = this.#earlier.get(file);
    const isOther = before !== undefined && before !== now;
    const words = [now ? `${counted(now, "problem")} in the file, listed below the rows.` : "No problem in the file.", isOther ? `Before: ${whole(before)}.` : ""];
    byId("view-repaired").hidden = !now && !isOther;
    byId("view-repaired").textContent = words.join(" ");
    this.#earlier.set(file, now);
  }

  async #download(name, file) {
    const blob = await this.#work.download("Writing the problems", name);
    if (blob) save(blob, `${file}.problems.csv`);
  }
}

const countOf = (issues) => Object.values(issues ?? {}).reduce((sum, count) => sum + (typeof count === "number" ? count : 0), 0);
