/** Longest text that is worth detaching, in characters: that of a ZFS name. */
const DETACHED_CHARACTERS_MAX = 256;

const scratch = Buffer.alloc(DETACHED_CHARACTERS_MAX);

/**
 * The same text with memory of its own. V8 makes a part of a longer string by pointing into it, so a guid cut out of a megabyte of output,
 * or out of a decoded event, keeps all of that alive: in a graph of a million snapshots, gigabytes. For ASCII, as names and ids are.
 */
export function detached<Text extends string>(text: Text): Text {
  if (text.length > DETACHED_CHARACTERS_MAX) return text;
  return scratch.toString('latin1', 0, scratch.write(text, 'latin1')) as Text;
}
