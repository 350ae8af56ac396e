/**
 * How the streams of a chain are made. A chain is what one dataset is received by, from its first stream on, and with it all that is cloned from it: to change the
 * way in its midst breaks it, at once or later (zfs-rules, "Encryption"; `-L`: zfs-send.8). So a replica says of itself how it was begun.
 */

/** The flags of `zfs send` that make a difference to what arrives. */
export interface StreamFlags {
  /** `-w`: encrypted blocks as they are, so that the key never leaves where it is. Includes the others. */
  readonly raw: boolean;
  /** `-c`: compressed blocks as they are. */
  readonly compressed: boolean;
  /** `-L`: blocks of more than 128 KiB. */
  readonly largeBlocks: boolean;
  /** `-e`: blocks so small that they lie in their pointers. */
  readonly embedded: boolean;
}

/** A replica carries this property where its streams are not plain. */
export const STREAM_PROPERTY = 'pando:stream';

export const PLAIN_STREAM: StreamFlags = { raw: false, compressed: false, largeBlocks: false, embedded: false };
export const RAW_STREAM: StreamFlags = { raw: true, compressed: true, largeBlocks: true, embedded: true };

/** The letters of `zfs send`, which are also what {@link STREAM_PROPERTY} and the wire have. */
const LETTERS = { raw: 'w', compressed: 'c', largeBlocks: 'L', embedded: 'e' } as const;
const NAMES = Object.keys(LETTERS) as (keyof StreamFlags)[];

/** The letters of the flags that are set, in a fixed order; empty for a plain stream. */
export function writtenFlags(flags: StreamFlags): string {
  return NAMES.map((name) => (flags[name] ? LETTERS[name] : '')).join('');
}

/** Reads what {@link writtenFlags} wrote; letters of later versions are passed over. */
export function parseFlags(text: string): StreamFlags {
  const { raw, compressed, largeBlocks, embedded } = LETTERS;
  return {
    raw: text.includes(raw),
    compressed: text.includes(compressed),
    largeBlocks: text.includes(largeBlocks),
    embedded: text.includes(embedded),
  };
}

/** What both can do. */
export function commonFlags(one: StreamFlags, other: StreamFlags): StreamFlags {
  return {
    raw: one.raw && other.raw,
    compressed: one.compressed && other.compressed,
    largeBlocks: one.largeBlocks && other.largeBlocks,
    embedded: one.embedded && other.embedded,
  };
}

/** Letters of the flags that are asked for and cannot be had; empty where all can. */
export function flagsBeyond(asked: StreamFlags, possible: StreamFlags): string {
  return NAMES.map((name) => (asked[name] && !possible[name] ? LETTERS[name] : '')).join('');
}

/** The chain that a replica with these properties belongs to. */
export function chainOf(properties: Readonly<Record<string, string>>): StreamFlags {
  return parseFlags(properties[STREAM_PROPERTY] ?? '');
}

/** The properties by which a replica keeps to its chain. None for a plain one, which is what a replica without them is. */
export function chainProperties(flags: StreamFlags): Readonly<Record<string, string>> {
  const text = writtenFlags(flags);
  return text === '' ? {} : { [STREAM_PROPERTY]: text };
}
