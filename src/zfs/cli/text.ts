/** Longest text that is worth detaching, in bytes: that of a ZFS name. */
const DETACHED_BYTES_MAX = 256;

const scratch = Buffer.alloc(DETACHED_BYTES_MAX);

/**
 * The same text with memory of its own. V8 makes a part of a longer string by pointing into it, so a guid cut out of a megabyte of output
 * keeps all of that alive: in a graph of a million snapshots, gigabytes.
 */
export function detached<Text extends string>(text: Text): Text {
  if (Buffer.byteLength(text) > DETACHED_BYTES_MAX) return text;
  return scratch.toString('utf8', 0, scratch.write(text)) as Text;
}
