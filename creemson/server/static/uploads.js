/** The uploads of this page: their list, and the memory of those that a reload has interrupted. */

import { button, byId, make, showError } from "./dom.js";
import { bytes, seconds } from "./format.js";

const KEY = "creemson.unfinished";
const RATE_WINDOW = 3_000; // ms over which the rate is taken

/** Uploads that were begun and not finished, by name: {size, modified, offset}. A page may not keep the file itself. */
const memory = {
  read() {
    try {
      return JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return {}; // no storage, or somebody else's words in it
    }
  },
  write(change) {
    try {
      const entries = this.read();
      change(entries);
      localStorage.setItem(KEY, JSON.stringify(entries));
    } catch {
      // without storage, only a reload is forgotten
    }
  },
  remember: (file, offset) =>
    memory.write((all) => (all[file.name] = { size: file.size, modified: file.lastModified, offset })),
  forget: (name) => memory.write((all) => delete all[name]),
};

/**
 * Begin to take files, dropped or picked.
 *
 * @param {import("./creemson.js").Client} client
 * @param {function(object): void} onUploaded is told of each `uploaded` message
 */
export function takeFiles(client, onUploaded) {
  const input = byId("file-input");
  const drop = byId("drop");
  const take = (files) => [...files].forEach((file) => upload(client, file, onUploaded));
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // so that the same file can be picked again
  });
  for (const event of ["dragenter", "dragover"]) {
    document.addEventListener(event, (e) => {
      e.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (e) => e.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (e) => {
    e.preventDefault();
    drop.classList.remove("over");
    take(e.dataTransfer.files);
  });
  for (const [name, { size, offset }] of Object.entries(memory.read())) remind(name, size, offset);
}

/** Say that a file is not complete; to go on, the browser needs it to be picked again. */
function remind(name, size, offset) {
  const share = size ? Math.floor((100 * offset) / size) : 0;
  const forget = button("Forget", () => {
    memory.forget(name);
    item.remove();
  });
  const item = make(
    "li",
    { dataset: { unfinished: name } },
    make("p", { className: "row" }, make("span", {}, `${name} is ${share} % uploaded. Pick it again to go on.`), forget),
  );
  byId("uploads").append(item);
}

function upload(client, file, onUploaded, overwrite = false) {
  for (const old of byId("uploads").children) {
    if ([old.dataset.unfinished, old.dataset.upload].includes(file.name)) old.remove();
  }
  memory.remember(file, 0);
  const bar = make("progress", { max: Math.max(1, file.size), value: 0, ariaLabel: `Upload of ${file.name}` });
  const figures = make("span", { className: "figures", role: "status" }, "waiting");
  const problem = make("p", { className: "error", role: "alert", hidden: true });
  const rate = makeRate();

  const transfer = client.upload(file, {
    overwrite,
    onProgress({ offset, safe = offset, size }) {
      bar.value = offset;
      if (!transfer.paused) figures.textContent = describe(offset, size, rate(offset));
      memory.remember(file, safe);
    },
  });
  const pause = button("Pause", () => {
    transfer.paused ? transfer.resume() : transfer.pause();
    pause.textContent = transfer.paused ? "Resume" : "Pause";
    if (transfer.paused) figures.textContent = `paused at ${bytes(bar.value)} of ${bytes(file.size)}`;
  });
  const abort = button("Cancel", () => transfer.abort());
  const controls = make("span", {}, pause, " ", abort);
  const item = make(
    "li",
    { dataset: { upload: file.name } },
    make("div", { className: "row" }, make("strong", {}, file.name), figures),
    make("div", { className: "row" }, bar, controls),
    problem,
  );
  byId("uploads").append(item);

  transfer.promise.then(
    (uploaded) => {
      memory.forget(file.name);
      item.remove();
      onUploaded(uploaded);
    },
    (error) => {
      memory.forget(file.name);
      figures.textContent = error.reason === "cancelled" ? "cancelled" : "failed";
      bar.hidden = true;
      controls.replaceChildren(button("Dismiss", () => item.remove()));
      if (error.reason === "cancelled") return;
      showError(problem, error);
      if (error.reason === "file_exists") {
        controls.prepend(button("Replace it", () => upload(client, file, onUploaded, true)), " ");
      }
    },
  );
}

const describe = (offset, size, rate) =>
  [
    `${bytes(offset)} of ${bytes(size)}`,
    rate ? `${bytes(Math.round(rate))}/s` : null,
    rate && offset < size ? `${seconds((size - offset) / rate)} left` : null,
  ]
    .filter(Boolean)
    .join(" · ");

/** Bytes per second over the last seconds; null while there is nothing to compare with. */
function makeRate() {
  const seen = [];
  return (offset) => {
    const now = performance.now();
    seen.push([now, offset]);
    while (seen.length > 2 && now - seen[0][0] > RATE_WINDOW) seen.shift();
    const [then, before] = seen[0];
    return now > then && offset > before ? ((offset - before) / (now - then)) * 1000 : null;
  };
}
