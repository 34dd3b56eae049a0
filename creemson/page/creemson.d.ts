/** Types of creemson.js. Fields that the server leaves out are optional; see docs/reference/protocol.md. */

/** A value in a request: integers beyond 2⁵³ as BigInt; dates and times as ISO 8601 text. */
export type Value = string | number | bigint | boolean | null | Value[];
/** A value of a table: integers beyond 2⁵³ are BigInts; dates and times are ISO 8601 text. */
export type Cell = string | number | bigint | boolean | null | Cell[] | { [field: string]: Cell };
/** A column: its 0-based index or its name. */
export type ColumnRef = number | string;
export type ColumnType =
  | "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" | "float32" | "float64"
  | "boolean" | "string" | "date" | "datetime" | "time";
export type Condition =
  | [column: ColumnRef, operator: "is_null" | "not_null"]
  | [column: ColumnRef, operator: "in" | "not_in", values: Value[]]
  | [column: ColumnRef, operator: "==" | "!=" | "<" | "<=" | ">" | ">=", value: Value]
  | [column: ColumnRef, operator: TextOperator, value: string];
/** Compares text with text; those that begin with i without regard to case. */
export type TextOperator =
  | "contains" | "starts_with" | "ends_with" | "icontains" | "istarts_with" | "iends_with" | "iequals";
/** An element of `where`, whose elements must all hold: a condition, or several of which one must hold. */
export type Clause = Condition | { any: Condition[] };
export type SortKey = [column: ColumnRef, direction: "asc" | "desc"];
export type AggregateFunction =
  | "count" | "sum" | "mean" | "min" | "max" | "median" | "std" | "first" | "last" | "n_unique";
export type Aggregate = [column: ColumnRef, aggregate: AggregateFunction, name?: string];
export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

/** How to read a file; what is not given is detected. */
export interface Options {
  delimiter?: string | null;
  quote?: string | null;
  escape?: string | null;
  encoding?: string | null;
  header?: boolean | number | null;
  skip_rows?: number | null;
  null_values?: string[] | null;
  decimal?: "." | "," | null;
  thousands?: string | null;
  date_format?: string | { [column: string]: string } | null;
  comment?: string | null;
  widths?: number[] | null;
  sheet?: ColumnRef | null;
  types?: { [column: string]: ColumnType } | null;
}

/** What to compute from a file; the operations are applied in this order. */
export interface Query {
  filename: string;
  options?: Options | null;
  /** Whether a file that must be repaired is an error; default: false. */
  strict?: boolean;
  /** Default: all. */
  selectedColumns?: ColumnRef[] | null;
  cast?: { [column: string]: ColumnType } | null;
  where?: Clause[] | null;
  group_by?: ColumnRef[] | null;
  aggregate?: Aggregate[] | null;
  distinct?: boolean | ColumnRef[] | null;
  sort?: SortKey[] | null;
  limit?: number | null;
  rename?: { [column: string]: string } | null;
  /** Rows to include in the result, at most 1000. */
  preview?: number | null;
  /** Whether to include statistics of each column; default: false. */
  profile?: boolean;
  /** Seconds. */
  timeout?: number | null;
  /** What happens to the job if the connection is lost; default: "keep". */
  on_disconnect?: "keep" | "cancel";
}

export interface Column {
  index: number;
  name: string;
  dtype: string;
}

/** How a file was read. Apart from what describes the file only, it can be passed as `options`. */
export interface Reading {
  format: string;
  compression?: string | null;
  encoding?: string | null;
  delimiter?: string | null;
  quote?: string | null;
  escape?: string | null;
  line_end?: string | null;
  trailing_delimiter?: boolean | null;
  header?: number | null;
  skip_rows?: number | null;
  footer_rows?: number | null;
  null_values?: string[] | null;
  decimal?: "." | "," | null;
  thousands?: string | null;
  date_format?: string | { [column: string]: string } | null;
  comment?: string | null;
  widths?: number[] | null;
  sheet?: string | null;
  sheets?: string[] | null;
  member?: string | null;
}

export interface Issue {
  line: number | null;
  column: string | null;
  value: string | null;
  why: string;
}

/** Counts of what was repaired in a file, or could not be read. */
export interface Issues {
  padded_rows: number;
  cut_rows: number;
  repaired_rows: number;
  repaired_cells: number;
  unparsable_rows: number;
  unparsable_cells: number;
  missing_values: number;
  examples: Issue[];
  /** Name of the file with all issues, for `download`. */
  rejects?: string | null;
}

export interface Histogram {
  edges: Cell[];
  counts: number[];
}

/** Statistics of one column of the output. */
export interface ColumnProfile {
  column: string;
  dtype: string;
  nulls: number;
  min: Cell;
  max: Cell;
  mean: number | null;
  std: number | null;
  quantiles: { [probability: string]: Cell } | null;
  distinct: number | null;
  histogram?: Histogram | null;
  top?: [value: Cell, count: number][] | null;
}

export interface OutputData {
  rows: number;
  columns: string[];
  /** polars types. */
  dtypes: string[];
  /** The stored output, a Parquet file; with the extension .ndjson or .arrow, `download` converts it. */
  filename: string;
  /** A CSV with the cells as the file writes them. */
  final_filename_csv: string;
  /** A CSV with values: ISO dates, decimal points, nothing for null. */
  final_filename_csv_normalized?: string | null;
  final_filename_excel: string;
  elapsed_s: number;
  cached: boolean;
  /** Bytes. */
  size?: number | null;
  texts_size?: number | null;
  reading?: Reading | null;
  issues?: Issues | null;
  preview?: Cell[][] | null;
  preview_complete?: boolean;
  profile?: ColumnProfile[] | null;
}

export interface ResultData {
  summary: string;
  output_data: OutputData;
}

export interface Described {
  columns: Column[];
  reading: Reading | null;
  issues: Issues | null;
}

export interface FileInfo {
  filename: string;
  /** Bytes. */
  size: number;
  /** Seconds since 1970 UTC. */
  modified: number;
  sha256?: string | null;
  imported?: boolean | null;
  rows?: number | null;
}

export interface JobInfo {
  job: string;
  state: JobState;
  filename: string;
  /** Seconds since 1970 UTC. */
  created: number;
  finished?: number | null;
  rows?: number | null;
}

/** A window of the rows of a table. */
export interface Window {
  columns: string[];
  rows: Cell[][];
  offset: number;
  /** Rows that meet the conditions; null while unknown. */
  total: number | null;
  /** False if only a part of the file was looked at in the time allowed. */
  complete: boolean;
}

export interface Progress {
  type: "progress";
  id: string;
  job: string;
  seq: number;
  phase: "queued" | "reading" | "sorting" | "writing";
  bytes_read: number;
  bytes_total: number;
  rows: number;
  /** 0 to 1. */
  fraction: number;
  rows_per_s: number;
  /** Seconds; null while unknown. */
  eta_s: number | null;
}

export interface Log {
  type: "log";
  id: string;
  job: string;
  seq: number;
  level: "debug" | "info" | "warning" | "error";
  message: string;
}

export interface Uploaded {
  type: "uploaded";
  filename: string;
  size: number;
  sha256: string | null;
  /** Empty if the file cannot be read as a table. */
  columns: Column[];
}

/** What the server says about itself. */
export interface Welcome {
  type: "welcome";
  id?: string | null;
  version: number;
  server: string;
  connection: string;
  limits: {
    message_bytes: number;
    chunk_bytes: number;
    upload_bytes: number;
    batch_messages: number;
    messages_per_s: number;
    messages_burst: number;
  };
  heartbeat: { interval: number; timeout: number };
  formats: string[];
  outputs: string[];
}

export interface ClientState {
  state: "connecting" | "open" | "waiting" | "closed";
  /** Milliseconds until the next attempt. */
  retryIn: number | null;
  /** Consecutive losses; 0 while open. */
  attempt: number;
  /** Why the client is closed; null if by `close()`. */
  error?: CreemsonError | null;
}

/** An error that the server or the client reports. */
export class CreemsonError extends Error {
  constructor(fields: {
    message: string;
    code: number;
    reason: string;
    retryable?: boolean;
    details?: string[];
    retry_after?: number | null;
  });
  /** Message family: 1001 connection lost, 1002 invalid format, 1003 processing error. */
  readonly code: number;
  /** A slug such as "file_not_found". */
  readonly reason: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** One line for each fault of an invalid message. */
  readonly details: string[];
  /** Seconds to wait before the next attempt. */
  readonly retryAfter: number | null;
}

export interface RowsOptions {
  where?: Clause[];
  sort?: SortKey[];
  /** A text that a row must have in any of its cells, in any case. */
  find?: string;
  options?: Options;
  /** Whether the cells are texts, as the file writes them; default: false. */
  texts?: boolean;
  /** Cancels the search; the promise then rejects with the reason "cancelled". */
  signal?: AbortSignal;
}

export interface JobCallbacks {
  onProgress?: (progress: Progress) => void;
  onLog?: (log: Log) => void;
}

/** A job that this client waits for. */
export interface RunningJob {
  readonly promise: Promise<ResultData>;
  cancel(): void;
}

export interface UploadOptions {
  /** On the server; default: the file's own. */
  name?: string;
  /** Whether to replace a file of that name; default: false. */
  overwrite?: boolean;
  /** Whether to continue an earlier upload of that name and size; default: true. */
  resume?: boolean;
  /** Bytes sent, bytes on the server's disk, bytes of the file. */
  onProgress?: (progress: { offset: number; safe: number; size: number }) => void;
}

export interface RunningUpload {
  readonly promise: Promise<Uploaded>;
  readonly paused: boolean;
  pause(): void;
  resume(): void;
  abort(): void;
}

export interface DownloadOptions {
  /** Bytes received, bytes of the file. */
  onProgress?: (progress: { offset: number; size: number | null }) => void;
}

export interface RunningDownload {
  readonly promise: Promise<Blob>;
  abort(): void;
}

/** A token, or a function that returns one: it is called before each connection, and before a JSON web token ends. */
export type Token = string | (() => string | Promise<string>);

export interface ConnectOptions {
  token?: Token | null;
  /** Of this client, for the server's log. */
  name?: string;
}

/** A client of a server; stays connected until it is closed. */
export class Client extends EventTarget {
  /** Use {@link connect}, which completes addresses. */
  constructor(url: string | URL | (string | URL)[], options?: ConnectOptions);
  readonly state: ClientState;
  /** The last `welcome` of the server; null before the first one. */
  readonly welcome: Welcome | null;
  /** Reconnect now instead of waiting for the next attempt. */
  reconnectNow(): void;
  /** Close the client permanently: everything in flight rejects with the reason "connection_lost". */
  close(): void;
  /** Ask whether the server answers; over a lost connection, the promise waits for the next one. */
  ping(): Promise<void>;
  columns(filename: string): Promise<Column[]>;
  /** The columns of a file, how it is read, and the issues in its first 64 KiB. */
  describe(filename: string, options?: Options | null): Promise<Described>;
  files(): Promise<FileInfo[]>;
  /** Delete an uploaded file. */
  remove(filename: string): Promise<void>;
  /** A window of at most 1000 rows of an output or an uploaded file. */
  rows(filename: string, offset: number, limit: number, options?: RowsOptions): Promise<Window>;
  /** Newest first. */
  jobs(): Promise<JobInfo[]>;
  /** Cancel a job for all clients that wait for it. */
  cancel(job: string): Promise<void>;
  /** Process a file. `cancel` lets the job continue for other clients that wait for it. */
  process(query: Query, callbacks?: JobCallbacks & { onAccepted?: (job: string, position: number) => void }): RunningJob;
  /** Follow a job that was started elsewhere or before a reload. */
  attach(job: string, options?: JobCallbacks & { after?: number }): RunningJob;
  /** Upload a file; uploads run one at a time. A Blob needs a `name`. */
  upload(file: File, options?: UploadOptions): RunningUpload;
  upload(file: Blob, options: UploadOptions & { name: string }): RunningUpload;
  /** Download an uploaded file or an output; downloads run one at a time. */
  download(filename: string, options?: DownloadOptions): RunningDownload;
  addEventListener(
    type: "state",
    listener: (event: CustomEvent<ClientState>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: "error",
    listener: (event: CustomEvent<CreemsonError>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/**
 * Connect to a server in the background; returns immediately.
 *
 * @param url default: `ws`, relative to the page; `http` means `ws`, and an address that ends in `/` is completed by `ws`.
 *   If there are several, of servers with the same files and jobs, the client goes on at the next one when one shuts down
 *   or cannot be reached.
 */
export function connect(url?: string | URL | (string | URL)[], options?: ConnectOptions): Client;
