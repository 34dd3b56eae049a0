/** Tells the other tabs of this browser about new files, and shares the sign-in with them. */

const channel = globalThis.BroadcastChannel ? new BroadcastChannel("creemson") : null;

/** @param {"files"|"token?"|"token"|"out"} kind
 *  @param {any} [content] */
export const tell = (kind, content) => channel?.postMessage({ kind, content });

/** @param {Object<string, function(any): void>} handlers by kind of message */
export function listen(handlers) {
  channel?.addEventListener("message", ({ data }) => handlers[data.kind]?.(data.content));
}
