/**
 * Client for the Creemson wire protocol, version 1, for browsers and node 22: one module, no dependencies. Its types are
 * in creemson.d.ts.
 *
 * A client connects in the background and reconnects automatically when the connection breaks. It then repeats the
 * requests that were in flight, resumes uploads and downloads, and follows jobs from their last event. Sizes and
 * offsets are in bytes, delays in milliseconds, times from the server in seconds since 1970 UTC.
 *
 *     import { connect } from "./creemson.js";
 *     const client = connect();
 *     const { promise } = client.process({ filename: "flights.csv", selectedColumns: [0, "carrier"] });
 *     console.log((await promise).output_data.rows);
 */

const SUBPROTOCOL = "creemson.v1";
const BACKOFF = { base: 250, cap: 15_000 };
const STABLE_AFTER = 5_000; // a connection that was open for this long resets the backoff
const CONNECT_TIMEOUT = 15_000;
const IDLE_TIMEOUT = 20_000; // without a frame for this long: ping; without a pong for as long again: reconnect
const CHECK_INTERVAL = 1_000;
const MAX_BUFFERED = 4 * 2 ** 20; // buffered in the socket; limits how long a message waits behind an upload
const BUFFER_POLL = 20;
const MAX_DIGEST_SIZE = 64 * 2 ** 20; // crypto.subtle needs all bytes in memory at once
const DEFAULT_CHUNK = 2 ** 18;
const RENEW_AFTER = 0.8; // of the time that a token is still valid
const RENEW_PAUSE = 500; // at least, also if the token function returns the old token again
const MAX_TIMEOUT = 2 ** 31 - 1; // of setTimeout
const GOING_AWAY = 1001; // the server shuts down
const FATAL_CLOSE_CODES = new Set([4401, 4403]); // another attempt would fail in the same way
const RETRY_LATER = new Set(["busy", "shutting_down"]);
const SERVER_LEAVING = new Set(["connection_lost", "shutting_down"]); // jobs continue without the connection

/**
 * An error that the server or this client reports.
 *
 * @property {number} code message family: 1001 connection lost, 1002 invalid format, 1003 processing error
 * @property {string} reason slug, e.g. "file_not_found"
 * @property {boolean} retryable whether the same request may succeed later
 * @property {string[]} details one line for each fault of an invalid message
 * @property {number|null} retryAfter seconds to wait before the next attempt
 */
export class CreemsonError extends Error {
  constructor({ message, code, reason, retryable = false, details = [], retry_after: retryAfter = null }) {
    super(message);
    this.name = "CreemsonError";
    Object.assign(this, { code, reason, retryable, details: details ?? [], retryAfter });
  }
}

const cancelled = () => new CreemsonError({ code: 1003, reason: "cancelled", message: "Cancelled by request." });
const lost = (message) => new CreemsonError({ code: 1001, reason: "connection_lost", retryable: true, message });

/** Call a callback of the page; its exceptions are reported on the console and do not affect the client. */
function notify(callback, ...args) {
  try {
    callback?.(...args);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error); // node has no reportError
  }
}

/** For JSON.stringify: BigInts become numbers; what JSON would silently change is an error. */
function toJson(key, value) {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is not a JSON value`);
  if (typeof value !== "bigint") return value;
  if (JSON.rawJSON) return JSON.rawJSON(String(value));
  if (Number.isSafeInteger(Number(value))) return Number(value);
  throw new TypeError(`this browser cannot send ${value}: it has no JSON.rawJSON`);
}

const LONE_SURROGATE = /(?<!\\)(?:\\\\)*\\ud[89a-f]/; // JSON.stringify escapes only those without their other half

/** Why a request cannot be sent, as a CreemsonError that names the field; null if it can. */
function faultOf(request) {
  for (const [field, value] of Object.entries(request)) {
    try {
      if (!LONE_SURROGATE.test(JSON.stringify(value, toJson))) continue;
      throw new TypeError("half of a surrogate pair is not text");
    } catch (error) {
      const message = `The request cannot be sent: "${field}": ${error.message}.`;
      return new CreemsonError({ code: 1002, reason: "invalid_message", message });
    }
  }
  return null;
}

/** When a JSON web token expires, in milliseconds since 1970; null for other tokens. */
function expiryOf(token) {
  try {
    const { exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Number.isFinite(exp) ? exp * 1000 : null;
  } catch {
    return null;
  }
}

/**
 * Parse JSON; integers that a number would round become BigInts, except in browsers without source text access in
 * `JSON.parse`. A reviver is slow, so only messages with at least 16 digits in a row get one.
 */
function decode(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => {
    const rounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return rounded && /^-?\d+$/.test(context?.source) ? BigInt(context.source) : value;
  });
}

/** SHA-256 in hexadecimal; null if it is not available (insecure context, or larger than MAX_DIGEST_SIZE). */
async function digest(blob) {
  if (blob.size > MAX_DIGEST_SIZE || !globalThis.crypto?.subtle) return null;
  const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * What the server recognises the content by, so that it never mixes two files: size, time and name of a File. A Blob has
 * only a size, so it is resumed only by the same upload.
 */
function fingerprintOf(file) {
  if (file.lastModified === undefined) return `${Date.now()} ${Math.random()}`;
  return `${file.size} ${file.lastModified} ${Array.from(file.name ?? "").slice(0, 150).join("")}`;
}

/** A request that waits for responses, across reconnections if needed. `id` is null while it is not sent. */
class Operation {
  id = null;
  settled = false;

  constructor(connection) {
    this.connection = connection;
    this.promise = new Promise((resolve, reject) => Object.assign(this, { _resolve: resolve, _reject: reject }));
  }

  /** What the caller gave; checked before anything is sent. */
  get given() {
    return {};
  }

  /** The message to send once the connection is open, without `id`; null to send nothing yet. */
  request() {
    return null;
  }

  /** The exchange has ended before it was complete: the connection was lost, or the request is sent again later. */
  interrupted() {}

  /** The server is about to close the connection; the request continues over the next one. */
  awaitReconnection() {
    this.connection.release(this);
    this.interrupted();
  }

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
    this.connection.forget(this);
    this.onSettled?.();
  }
}

/** A request with one response. */
class Call extends Operation {
  sent = 0;

  constructor(connection, message, accept = () => false) {
    super(connection);
    Object.assign(this, { message, accept });
  }

  get given() {
    return this.message;
  }

  request() {
    this.sent += 1;
    return this.message;
  }

  handle(message) {
    if (message.type !== "error") this.resolve(message);
    else if (this.accept(message, this.sent)) this.resolve(null);
    else if (SERVER_LEAVING.has(message.reason)) this.awaitReconnection();
    else this.reject(new CreemsonError(message));
  }

  /** Give up; the server stops reading the file. */
  cancel() {
    if (this.settled) return;
    if (this.id !== null) this.connection.send({ type: "cancel", id: this.connection.newId(), request: this.id });
    this.reject(cancelled());
  }
}

/** A job. The server stores it before it accepts it, so it can be followed over any connection. */
class Job extends Operation {
  #query; // null if it was started elsewhere
  #job;
  #lastSeq; // of the last event received
  #callbacks;
  #attached = false;
  #cancelled = false;

  constructor(connection, { query = null, job = null, after = 0 }, callbacks) {
    super(connection);
    this.#query = query;
    this.#job = job;
    this.#lastSeq = after;
    this.#callbacks = callbacks;
  }

  get given() {
    return this.#query ?? { job: this.#job, after: this.#lastSeq };
  }

  request() {
    this.#attached = this.#job !== null;
    if (this.#attached) return { type: "attach", job: this.#job, after: this.#lastSeq };
    return { ...this.#query, type: "process" };
  }

  handle(message) {
    const { onAccepted, onProgress, onLog } = this.#callbacks;
    this.#lastSeq = message.seq ?? this.#lastSeq;
    if (message.type === "accepted") {
      this.#job = message.job;
      notify(onAccepted, message.job, message.position);
    } else if (message.type === "progress") notify(onProgress, message);
    else if (message.type === "log") notify(onLog, message);
    else if (message.type === "result") this.resolve(message.data);
    else if (message.type === "error") this.#failed(message);
  }

  interrupted() {
    if (this.#cancelled) this.#cancelOffline();
  }

  cancel() {
    if (this.settled || this.#cancelled) return;
    this.#cancelled = true;
    if (this.id === null) return this.#cancelOffline();
    // After a reconnection, the server may still count the lost connection as another client that waits for the job.
    const which = this.#attached ? { job: this.#job } : { request: this.id };
    this.connection.send({ type: "cancel", id: this.connection.newId(), ...which });
  }

  #failed(message) {
    const forgotten = message.reason === "job_not_found" && this.#attached;
    // An error with a sequence number is the last event of the job; any other concerns this request.
    if (message.seq !== undefined) this.reject(new CreemsonError(message));
    else if (SERVER_LEAVING.has(message.reason)) this.awaitReconnection();
    else if (forgotten && this.#cancelled) this.reject(cancelled());
    else if (forgotten && this.#query) this.#resubmit();
    else this.reject(new CreemsonError(message));
  }

  /** The server has forgotten the job, or is another server at the same address. */
  #resubmit() {
    this.#job = null;
    this.#lastSeq = 0;
    this.connection.release(this);
    this.connection.start(this);
  }

  /** Cancel without a connection: reject at once, and cancel the job on the server after reconnecting. */
  #cancelOffline() {
    if (this.#job) {
      const call = new Call(this.connection, { type: "cancel", job: this.#job }, () => true);
      call.promise.catch(() => {}); // the page already has its rejection
      this.connection.add(call);
    }
    this.reject(cancelled());
  }
}

/** The common part of uploads and downloads: queueing, abort() and retries. */
class Transfer extends Operation {
  /** Called when the transfer is at the head of the queue. */
  begin() {
    this.connection.add(this);
  }

  abort() {
    if (!this.settled) this.stop(cancelled());
  }

  /** Give up; cancels the request on the server if it was sent. */
  stop(error) {
    if (this.id !== null) this.connection.send({ type: "cancel", id: this.connection.newId(), request: this.id });
    this.reject(error);
  }

  failed(message) {
    if (!RETRY_LATER.has(message.reason)) return this.reject(new CreemsonError(message));
    this.connection.release(this);
    this.interrupted();
    setTimeout(() => this.connection.start(this), (message.retry_after ?? 1) * 1000);
  }
}

class Upload extends Transfer {
  paused = false;
  #file;
  #message;
  #onProgress;
  #hashed = false; // the digest has been computed, where possible
  #accepted = false; // the server has sent the offset to start from
  #sent = 0;
  #stored = 0;
  #loop = null; // the current sending loop; any other stops at its next step
  #sentAll = false; // all bytes have been sent at least once
  #isOwnPart; // whether the part that the server holds is known to come from this file

  constructor(connection, file, name, overwrite, resume, onProgress) {
    super(connection);
    this.#file = file;
    this.#message = { type: "upload", filename: name, size: file.size, fingerprint: fingerprintOf(file), overwrite };
    this.#isOwnPart = resume;
    this.#onProgress = onProgress;
  }

  async begin() {
    try {
      const sha256 = await digest(this.#file);
      if (sha256) this.#message.sha256 = sha256;
    } catch (error) {
      return this.#failReading(error);
    }
    this.#hashed = true;
    if (!this.settled) super.begin();
  }

  get given() {
    return this.#message;
  }

  request() {
    return this.#hashed && !this.paused ? this.#message : null;
  }

  handle(message) {
    if (message.type === "upload_ready") {
      if (message.offset && !this.#isOwnPart && !this.#message.sha256) return this.#restart();
      this.#isOwnPart = true;
      this.#accepted = true;
      this.#progress(message.offset, message.offset);
      this.#sendChunks();
    } else if (message.type === "upload_progress") {
      this.#progress(this.#sent, message.offset);
      this.#loop?.wake?.(); // timers of a hidden page are throttled, messages are not
    } else if (message.type === "uploaded") {
      this.#progress(message.size, message.size);
      this.resolve(message);
    } else if (message.type === "error") {
      if (message.reason === "file_exists" && this.#sentAll) this.#checkStored(new CreemsonError(message));
      else this.failed(message);
    }
  }

  interrupted() {
    this.#loop = null;
    this.#accepted = false;
  }

  pause() {
    this.paused = true;
    this.#loop = null;
  }

  resume() {
    if (!this.paused || this.settled) return;
    this.paused = false;
    if (this.#accepted) this.#sendChunks();
    else this.connection.start(this);
  }

  reject(error) {
    this.interrupted();
    super.reject(error);
  }

  #progress(sent, safe) {
    this.#sent = sent;
    this.#stored = safe;
    this.#sentAll ||= sent === this.#file.size;
    notify(this.#onProgress, { offset: sent, safe, size: this.#file.size });
  }

  /** The server holds a part of a file with this name and size, but without a digest it may be another file. */
  #restart() {
    this.#isOwnPart = true; // the server drops that part; the next one comes from this file
    this.connection.send({ type: "cancel", id: this.connection.newId(), request: this.id });
    this.connection.release(this);
    this.connection.start(this);
  }

  /** The name was free when the upload started and is taken now: by this file, if only the `uploaded` message was lost. */
  async #checkStored(refusal) {
    const { filename, size, sha256 } = this.#message;
    const ask = async (message) => {
      const call = new Call(this.connection, message);
      this.connection.add(call);
      return call.promise;
    };
    this.connection.forget(this);
    try {
      const found = (await ask({ type: "files" })).files.find((file) => file.filename === filename);
      if (found?.size !== size || (sha256 && found.sha256 && found.sha256 !== sha256)) throw refusal;
      const columns = await ask({ type: "columns", filename }).then((answer) => answer.columns, () => []);
      this.resolve({ type: "uploaded", filename, size, sha256: found.sha256 ?? sha256 ?? null, columns });
    } catch (error) {
      this.reject(error);
    }
  }

  #failReading(error) {
    if (this.settled) return;
    const message = `${this.#file.name ?? "The file"} could not be read: ${error.message.replace(/\.?$/, ".")} Select it again.`;
    this.stop(new CreemsonError({ code: 1003, reason: "unreadable_file", message }));
  }

  async #sendChunks() {
    if (this.paused || this.settled) return;
    const loop = (this.#loop = {});
    while (this.#loop === loop && this.#sent < this.#file.size) {
      if (this.connection.buffered > MAX_BUFFERED) {
        await new Promise((resolve) => {
          loop.wake = resolve;
          setTimeout(resolve, BUFFER_POLL);
        });
        continue;
      }
      const chunk = await this.#read(loop);
      if (this.#loop !== loop) return;
      this.connection.sendBytes(chunk);
      this.#progress(this.#sent + chunk.byteLength, this.#stored);
    }
  }

  async #read(loop) {
    try {
      return await this.#file.slice(this.#sent, this.#sent + this.connection.chunkBytes).arrayBuffer();
    } catch (error) {
      if (this.#loop === loop) this.#failReading(error);
    }
  }
}

class Download extends Transfer {
  #filename;
  #onProgress;
  #receiving = false; // frames before the `download` message belong to an aborted download
  #parts = [];
  #received = 0;
  #size = null;
  #sha256 = null;

  constructor(connection, filename, onProgress) {
    super(connection);
    this.#filename = filename;
    this.#onProgress = onProgress;
  }

  get given() {
    return { filename: this.#filename };
  }

  request() {
    return { type: "download", filename: this.#filename, offset: this.#received };
  }

  handle(message) {
    if (message.type === "download") this.#started(message);
    else if (message.type === "downloaded") this.#finish(message);
    else if (message.type !== "error") return;
    else if (message.reason === "offset_mismatch" && this.#received) this.#restart();
    else this.failed(message);
  }

  interrupted() {
    this.#receiving = false;
  }

  /** A frame of the file, as a Blob, which the browser may keep on disk. */
  bytes(part) {
    if (!this.#receiving) return;
    this.#parts.push(part);
    this.#received += part.size;
    this.#progress();
  }

  #progress() {
    notify(this.#onProgress, { offset: this.#received, size: this.#size });
  }

  #started({ size, sha256 = null }) {
    const other = size !== this.#size || (sha256 && this.#sha256 && sha256 !== this.#sha256);
    if (this.#received && other) {
      this.connection.send({ type: "cancel", id: this.connection.newId(), request: this.id });
      return this.#restart();
    }
    this.#size = size;
    this.#sha256 = sha256 ?? this.#sha256;
    this.#receiving = true;
    this.#progress();
  }

  /** The file has changed since the connection was lost. */
  #restart() {
    this.connection.release(this);
    this.#parts = [];
    this.#received = 0;
    this.#size = this.#sha256 = null;
    this.interrupted();
    this.connection.start(this);
  }

  async #finish({ size, sha256 }) {
    this.connection.forget(this); // complete for the server; only the check remains
    const blob = new Blob(this.#parts);
    const fault = (reason, message) => this.reject(new CreemsonError({ code: 1003, reason, retryable: true, message }));
    if (blob.size !== size) {
      return fault("size_mismatch", `Received ${blob.size} of ${size} bytes of ${this.#filename}. Try again.`);
    }
    const found = await digest(blob).catch(() => null);
    if (this.settled) return;
    if (found && sha256 && found !== sha256.toLowerCase()) {
      return fault("checksum_mismatch", `The checksum of the received ${this.#filename} differs from the server's. Try again.`);
    }
    this.resolve(blob);
  }
}

/** Transfers in one direction: one at a time, in the order in which they were requested. */
class TransferQueue {
  #queue = [];

  get head() {
    return this.#queue[0];
  }

  add(transfer) {
    transfer.onSettled = () => this.#ended(transfer);
    this.#queue.push(transfer);
    if (transfer === this.head) transfer.begin();
  }

  clear(error) {
    for (const transfer of [...this.#queue].reverse()) transfer.reject(error); // last first: none starts
  }

  #ended(transfer) {
    const wasHead = transfer === this.head;
    this.#queue = this.#queue.filter((other) => other !== transfer);
    if (wasHead) this.head?.begin();
  }
}

/** The connection: reconnects, detects dead connections, and dispatches responses to their operations. */
class Connection {
  state = null;
  welcome = null;
  #urls;
  #at = 0; // index of the address in use
  #hello;
  #token;
  #renewTimer = null;
  #events;
  #socket = null;
  #open = false;
  #operations = new Set(); // all that wait for something, in the order of the requests
  #inFlight = new Map(); // by id: those that were sent over this connection
  #lastId = 0;
  #attempts = 0;
  #failed = 0; // addresses tried in vain
  #reconnectTimer = null;
  #checkTimer;
  #listeners = new AbortController();
  #openedAt = 0; // when the connection opened; until then, when the attempt started
  #receivedAt = 0;
  #pingedAt = null;
  #bytesSent = 0; // bytes of files handed to the socket
  #bytesFlushed = 0; // those of them that have left the socket's buffer
  #lastError = null;
  #serverDelay = 0; // delay in ms that the server requested

  constructor(urls, hello, token, events) {
    this.#urls = urls;
    this.#hello = hello;
    this.#token = token;
    this.#events = events;
    const { signal } = this.#listeners;
    globalThis.addEventListener?.("online", () => this.#reconnectSoon(), { signal });
    const page = globalThis.document;
    page?.addEventListener("visibilitychange", () => page.visibilityState === "visible" && this.#reconnectSoon(), { signal });
    this.#checkTimer = setInterval(() => this.#check(), CHECK_INTERVAL);
    this.connect();
  }

  get chunkBytes() {
    return this.welcome?.limits?.chunk_bytes ?? DEFAULT_CHUNK;
  }

  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  newId() {
    this.#lastId += 1;
    return String(this.#lastId);
  }

  // --- operations ---

  add(operation) {
    if (this.state.state === "closed") return operation.reject(this.#lastError ?? lost("The client is closed."));
    const fault = faultOf(operation.given);
    if (fault) return operation.reject(fault);
    this.#operations.add(operation);
    this.start(operation);
  }

  /** Send the request if the connection is open and it has not been sent; otherwise it is sent once it opens. */
  start(operation) {
    if (!this.#open || operation.id !== null || !this.#operations.has(operation)) return;
    const request = operation.request();
    if (!request) return;
    const id = this.newId();
    const text = JSON.stringify({ ...request, id }, toJson);
    const limit = this.welcome.limits?.message_bytes ?? Infinity;
    if (text.length * 3 > limit && new TextEncoder().encode(text).length > limit) {
      // The server would close the connection, and the client would repeat the request forever.
      const message = `The message is larger than the limit of ${limit} bytes. Request less at a time.`;
      return operation.reject(new CreemsonError({ code: 1002, reason: "message_too_large", message }));
    }
    operation.id = id;
    this.#inFlight.set(id, operation);
    this.#socket.send(text);
  }

  /** Ignore further responses; the request may be sent again. */
  release(operation) {
    this.#inFlight.delete(operation.id);
    operation.id = null;
  }

  /** Release an operation that has ended. */
  forget(operation) {
    this.release(operation);
    this.#operations.delete(operation);
  }

  send(message) {
    if (this.#open) this.#socket.send(JSON.stringify(message));
  }

  sendBytes(bytes) {
    this.#bytesSent += bytes.byteLength;
    this.#socket.send(bytes);
  }

  // --- connecting ---

  connect() {
    clearTimeout(this.#reconnectTimer);
    this.#lastError = null;
    this.#serverDelay = 0;
    if (typeof this.#token === "function") this.#connectWithNewToken();
    else this.#openSocket(this.#token);
    this.#setState("connecting");
  }

  /** Ask for a token first: the server waits for it only for some seconds once the connection is open. */
  async #connectWithNewToken() {
    try {
      const token = await this.#newToken();
      if (this.state.state === "connecting") this.#openSocket(token);
    } catch (error) {
      if (this.state.state === "connecting") this.#tokenFailed(error);
    }
  }

  async #newToken() {
    await null; // a function that throws at once is like one that rejects
    return this.#token();
  }

  #tokenFailed(error) {
    this.#lastError = lost(`The token function failed: ${error?.message ?? error}`);
    this.#events.error(this.#lastError);
    if (!this.#open) this.#lost();
  }

  #openSocket(token) {
    const socket = (this.#socket = new WebSocket(this.#urls[this.#at], SUBPROTOCOL));
    this.#openedAt = performance.now();
    // An abandoned socket may still emit events; they are ignored.
    const current = (handler) => (event) => socket === this.#socket && handler(event);
    socket.onopen = current(() => this.#sayHello(token));
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current(({ code }) => this.#lost(code));
  }

  /** Authenticate, also again on an open connection; a new token is asked for before this one ends. */
  #sayHello(token) {
    this.#socket.send(JSON.stringify({ ...this.#hello, token: token || undefined, id: "hello" }));
    const expiry = typeof this.#token === "function" ? expiryOf(token) : null;
    if (expiry === null) return;
    const delay = Math.min(MAX_TIMEOUT, Math.max(RENEW_PAUSE, (expiry - Date.now()) * RENEW_AFTER));
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#renew(), delay);
  }

  async #renew() {
    const socket = this.#socket;
    try {
      const token = await this.#newToken();
      if (this.#open && socket === this.#socket) this.#sayHello(token);
    } catch (error) {
      if (this.#open && socket === this.#socket) this.#tokenFailed(error);
    }
  }

  reconnectNow() {
    if (this.state.state === "waiting") this.connect();
  }

  close(error = null) {
    if (this.state.state === "closed") return;
    this.#listeners.abort();
    clearInterval(this.#checkTimer);
    clearTimeout(this.#reconnectTimer);
    this.#drop();
    this.#lastError = error;
    this.#setState("closed", { error });
    const reason = error ?? lost("The client was closed.");
    this.#events.closed(reason);
    for (const operation of [...this.#operations]) operation.reject(reason);
  }

  #setState(state, more = {}) {
    this.state = { state, retryIn: null, attempt: state === "open" ? 0 : this.#attempts, ...more };
    this.#events.state(this.state);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    clearTimeout(this.#renewTimer);
    socket?.close();
    this.#inFlight.clear();
    for (const operation of [...this.#operations]) {
      operation.id = null;
      operation.interrupted();
    }
  }

  #lost(code) {
    const wasOpen = this.#open;
    const stable = wasOpen && performance.now() - this.#openedAt > STABLE_AFTER;
    const renewable = wasOpen && typeof this.#token === "function"; // the token has ended; the next one may be valid
    this.#drop();
    if (FATAL_CLOSE_CODES.has(code) && !renewable) {
      const message = "The server rejected the connection. Provide a valid token.";
      return this.close(this.#lastError ?? new CreemsonError({ code: 1002, reason: "unauthenticated", message }));
    }
    this.#attempts = stable ? 1 : this.#attempts + 1;
    const stays = wasOpen && code !== GOING_AWAY;
    this.#failed = stays || stable ? +!stays : this.#failed + 1;
    if (!stays) this.#at = (this.#at + 1) % this.#urls.length;
    // At an address that was not tried yet, at once; else full jitter: all clients lose the server at the same time.
    const rounds = Math.ceil(this.#attempts / this.#urls.length);
    const ceiling = Math.min(BACKOFF.cap, BACKOFF.base * 2 ** (rounds - 1));
    const isNew = this.#failed % this.#urls.length > 0;
    const retryIn = isNew ? 0 : this.#serverDelay + Math.random() * ceiling;
    this.#reconnectTimer = setTimeout(() => this.connect(), retryIn);
    this.#setState("waiting", { retryIn });
  }

  /** The network is back or the page became visible: reconnect now, or check that the connection is alive. */
  #reconnectSoon() {
    this.reconnectNow();
    if (this.#open && this.#pingedAt === null) this.#ping();
  }

  #ping() {
    this.#pingedAt = performance.now();
    this.send({ type: "ping" });
  }

  /** Timers of a hidden page may be minutes late, so only an unanswered ping counts as a loss. */
  #check() {
    const now = performance.now();
    if (!this.#socket) return;
    if (!this.#open) return now - this.#openedAt > CONNECT_TIMEOUT ? this.#lost() : undefined;
    const flushed = this.#bytesSent - this.buffered;
    if (flushed > this.#bytesFlushed) this.#markAlive(); // on a slow network, a pong waits behind upload data
    this.#bytesFlushed = flushed;
    if (this.#pingedAt !== null) return now - this.#pingedAt > IDLE_TIMEOUT ? this.#lost() : undefined;
    if (now - this.#receivedAt > IDLE_TIMEOUT) this.#ping();
  }

  #markAlive() {
    this.#receivedAt = performance.now();
    this.#pingedAt = null;
  }

  // --- receiving ---

  #receive(data) {
    this.#markAlive();
    if (typeof data !== "string") return this.#events.bytes(data);
    const message = decode(data);
    if (message.type === "welcome") return this.#welcomed(message);
    const operation = this.#inFlight.get(message.id);
    if (operation && message.reason === "rate_limited") return this.#retryLater(operation, message);
    if (operation) return operation.handle(message);
    if (message.type === "error") this.#handleError(message);
  }

  /** Rate limited: send again after the requested delay, with jitter to spread the requests. */
  #retryLater(operation, { retry_after: seconds = 0.1 }) {
    this.release(operation);
    operation.interrupted();
    setTimeout(() => this.start(operation), seconds * 1000 * (1 + Math.random()));
  }

  #welcomed(message) {
    this.welcome = message;
    if (this.#open) return; // the token was renewed
    this.#open = true;
    this.#openedAt = performance.now();
    this.#bytesSent = this.#bytesFlushed = 0;
    this.#setState("open");
    for (const operation of [...this.#operations]) this.start(operation);
  }

  #handleError(message) {
    const error = new CreemsonError(message);
    if (message.id === "hello") {
      this.#lastError = error;
      if (!error.retryable) this.close(error);
    } else if (message.id === undefined && message.reason !== "unexpected_binary") {
      // Chunks in flight when the server ends an upload are "unexpected"; the upload itself gets the actual error.
      this.#lastError = error;
      this.#serverDelay = (error.retryAfter ?? 0) * 1000;
      this.#events.error(error);
    }
  }
}

/**
 * A client of a server; stays connected until it is closed.
 *
 * Events: `state` with the new state as detail, and `error` with a {@link CreemsonError} that belongs to no request.
 */
export class Client extends EventTarget {
  #connection;
  #uploads = new TransferQueue();
  #downloads = new TransferQueue();

  constructor(url, { token, name } = {}) {
    super();
    const emit = (type) => (detail) => this.dispatchEvent(new CustomEvent(type, { detail }));
    const urls = Array.isArray(url) ? url : [url];
    this.#connection = new Connection(urls, { type: "hello", version: 1, client: name, batch: false }, token, {
      state: emit("state"),
      error: emit("error"),
      bytes: (part) => this.#downloads.head?.bytes(part),
      closed: (error) => [this.#uploads, this.#downloads].forEach((queue) => queue.clear(error)),
    });
  }

  /** @returns {object} state: "connecting", "open", "waiting" or "closed"; retryIn: ms until the next attempt; attempt:
   *   consecutive losses, 0 while open; error: why the client is closed, null if by close() */
  get state() {
    return this.#connection.state;
  }

  /** @returns {object|null} the last `welcome` of the server */
  get welcome() {
    return this.#connection.welcome;
  }

  /** Reconnect now instead of waiting for the next attempt. */
  reconnectNow() {
    this.#connection.reconnectNow();
  }

  /** Close the client permanently: everything in flight rejects with reason "connection_lost". */
  close() {
    this.#connection.close();
  }

  /** Ask whether the server answers; over a lost connection, the promise waits for the next one. */
  async ping() {
    await this.#call({ type: "ping" });
  }

  /** @param {string} filename
   *  @returns {Promise<{index: number, name: string, dtype: string}[]>} */
  async columns(filename) {
    return (await this.#call({ type: "columns", filename })).columns;
  }

  /** The columns of a file, how it is read, and the issues in its first 64 KiB.
   *  @param {string} filename
   *  @param {object|null} [options] how to read it; the rest is detected
   *  @returns {Promise<{columns: object[], reading: object|null,
   *   issues: object|null}>} */
  async describe(filename, options = null) {
    const { columns, reading = null, issues = null } = await this.#call({
      type: "columns",
      filename,
      ...(options && { options }),
    });
    return { columns, reading, issues };
  }

  /** @returns {Promise<object[]>} size in bytes, modified in seconds; see creemson.d.ts */
  async files() {
    return (await this.#call({ type: "files" })).files;
  }

  /** Delete an uploaded file.
   *  @param {string} filename */
  async remove(filename) {
    // If a repeated request finds no file, the first one deleted it before the connection was lost.
    await this.#call({ type: "delete", filename }, ({ reason }, sent) => reason === "file_not_found" && sent > 1);
  }

  /** A window of the rows of a table, or of those that meet conditions; rows that do not fit one message are asked for by
   *  further messages.
   *  @param {string} filename an output or an uploaded file
   *  @param {number} offset rows to skip, of those that meet the conditions
   *  @param {number} limit rows, at most 1000
   *  @param {object} [how] where, sort: as for process; find: text that a row must have in any of its cells, in any case;
   *    options: how to read the file; texts: whether the cells are texts, as the file writes them, instead of values
   *    (default: false); signal: an AbortSignal, for example of a search that a newer one replaces; the server stops
   *    reading, and the promise rejects with the reason "cancelled"
   *  @returns {Promise<object>} columns; rows; offset; total:
   *    rows that meet the conditions, null while unknown; complete: false if only a part of the file was looked at in the
   *    time allowed */
  async rows(filename, offset, limit, { where, sort, find, options, texts = false, signal } = {}) {
    const given = Object.entries({ where, sort, find, options }).filter(([, value]) => value);
    const how = { ...Object.fromEntries(given), ...(texts && { texts }) };
    const found = [];
    for (;;) {
      const window = { offset: offset + found.length, limit: limit - found.length };
      const message = { type: "rows", filename, ...window, ...how };
      const { columns, rows, total = null, complete = true, more } = await this.#call(message, undefined, signal);
      for (const row of rows) found.push(row);
      if (!more || !rows.length) return { columns, rows: found, offset, total, complete };
    }
  }

  /** @returns {Promise<object[]>} see creemson.d.ts; the newest first */
  async jobs() {
    return (await this.#call({ type: "jobs" })).jobs;
  }

  /** Cancel a job for all clients that wait for it.
   *  @param {string} job */
  async cancel(job) {
    // If a repeated request finds no job, the first one cancelled it before the connection was lost.
    await this.#call({ type: "cancel", job }, ({ reason }, sent) => reason === "job_not_found" && sent > 1);
  }

  /**
   * Process a file.
   *
   * @param {object} query the fields of a `process` message: filename, options, selectedColumns, where, sort, …
   * @param {object} [callbacks] onAccepted(job, position), called again if the server has forgotten the job and it is
   *   submitted again; onProgress(message) with bytes_read, fraction (0–1), rows_per_s, eta_s (seconds) …;
   *   onLog(message) with level and message
   * @returns {object} promise of the result's `data`; `cancel` lets the job continue
   *   for other clients that wait for it, but after a reconnection cancels it for all
   */
  process(query, { onAccepted, onProgress, onLog } = {}) {
    return this.#follow({ query }, { onAccepted, onProgress, onLog });
  }

  /**
   * Follow a job that was started elsewhere or before a reload; if it has ended, its result is sent again.
   *
   * @param {string} job as `onAccepted` and `jobs()` name it
   * @param {object} [options] after: sequence number (`seq`) of the last known event; onProgress and onLog as
   *   for `process`
   * @returns {object} promise of the result's `data`; `cancel` cancels the job for
   *   all clients that wait for it
   */
  attach(job, { after = 0, onProgress, onLog } = {}) {
    return this.#follow({ job, after }, { onProgress, onLog });
  }

  /**
   * Upload a file. Uploads run one at a time, in the order of the calls.
   *
   * @param {File|Blob} file
   * @param {object} [options] name on the server (default: the file's own); overwrite: replace a file of
   *   that name (default: false); resume an earlier upload of that name and size (default: true; pass false if its
   *   content may differ: the server can only check this if there is a digest); onProgress({offset, safe, size}):
   *   bytes sent, bytes on the server's disk, bytes of the file
   * @returns {{promise: Promise<object>, pause: function(): void, resume: function(): void,
   *   abort: function(): void, paused: boolean}} the promise resolves to filename, size, sha256 and columns
   * @throws {TypeError} the file is neither a File nor a Blob
   */
  upload(file, { name = file?.name, overwrite = false, resume = true, onProgress } = {}) {
    if (typeof file?.arrayBuffer !== "function") {
      throw new TypeError(`upload() takes a File or a Blob, as of an <input type="file">, got ${file}.`);
    }
    const upload = new Upload(this.#connection, file, name, overwrite, resume, onProgress);
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
   * Download an uploaded file or an output. Downloads run one at a time, in the order of the calls.
   *
   * @param {string} filename
   * @param {object} [options] onProgress({offset, size}): bytes received, bytes of the file
   * @returns {{promise: Promise<Blob>, abort: function(): void}}
   */
  download(filename, { onProgress } = {}) {
    const download = new Download(this.#connection, filename, onProgress);
    this.#downloads.add(download);
    return { promise: download.promise, abort: () => download.abort() };
  }

  #follow(what, callbacks) {
    const job = new Job(this.#connection, what, callbacks);
    this.#connection.add(job);
    return { promise: job.promise, cancel: () => job.cancel() };
  }

  #call(message, accept, signal) {
    const call = new Call(this.#connection, message, accept);
    if (signal?.aborted) call.cancel();
    else this.#connection.add(call);
    const abort = () => call.cancel();
    signal?.addEventListener("abort", abort);
    call.onSettled = () => signal?.removeEventListener("abort", abort);
    return call.promise;
  }
}

/** The address of the WebSocket: http becomes ws, and a folder is completed by `ws`. */
function endpoint(url) {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  if (url === undefined && base === undefined) {
    throw new TypeError('Outside a page, connect() needs an address such as "ws://127.0.0.1:8000/ws".');
  }
  const given = url ?? "ws";
  let target = null;
  try {
    target = new URL(given, base);
  } catch {
    // Browsers before 2024 lack URL.canParse().
  }
  if (!/^(ws|http)s?:$/.test(target?.protocol)) {
    throw new TypeError(`"${given}" is no address of a server. It looks like "ws://127.0.0.1:8000/ws".`);
  }
  target.protocol = target.protocol.replace(/^http/, "ws");
  if (target.pathname.endsWith("/")) target.pathname += "ws";
  return target;
}

/**
 * Connect to a server in the background; returns immediately.
 *
 * @param {string|URL|(string|URL)[]} [url] default: `ws`, relative to the page; if there are several, of servers with the
 *   same files and jobs, the next one is tried at once when one shuts down or cannot be reached
 * @param {object} [options] token: for authentication, or a function that returns one or a promise of one: it is called
 *   before each connection, and before the end (`exp`) of a JSON web token; name: of this client, for the server's log
 * @returns {Client}
 * @throws {TypeError} an address is no URL, or is missing outside a page
 */
export function connect(url, options = {}) {
  const urls = Array.isArray(url) ? url : [url];
  if (!urls.length) throw new TypeError("connect() needs at least one address.");
  return new Client(urls.map(endpoint), options);
}
