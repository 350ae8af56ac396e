/**
 * Where things are in LevelDB. Four kinds of rows, each in a key space of its own:
 *
 * | key | value |
 * | --- | --- |
 * | `head!STREAM` | how far the stream has come (level-rows.ts) |
 * | `page!STREAM!INCARNATION!SEQ` | records from SEQ on (page.ts) |
 * | `checkpoint!STREAM!SEQ` | seal of a checkpoint of the current incarnation, and where its chunks are (level-rows.ts) |
 * | `chunk!ID!INDEX` | a chunk of the checkpoint that was written under ID |
 *
 * A stream id is made of letters, digits and `- / _ .`, so `!`, which sorts before them all, cannot occur in one. Numbers have 16
 * digits: keys sort as their numbers do.
 */
import type { StreamId } from '../core/ids.ts';

const DELIMITER = '!';
/** Sorts behind every character that follows a prefix. */
const END = '~';
/** Digits of 2^53, the largest seq. */
const NUMBER_DIGITS = 16;

type Space = 'head' | 'page' | 'checkpoint' | 'chunk';

/** Bounds of a range of keys, as LevelDB iterators take them. */
export interface KeyRange {
  readonly gte: string;
  readonly lt: string;
}

function key(space: Space, ...parts: readonly (string | number)[]): string {
  const texts = parts.map((part) => (typeof part === 'number' ? String(part).padStart(NUMBER_DIGITS, '0') : part));
  return [space, ...texts].join(DELIMITER);
}

function under(prefix: string): KeyRange {
  return { gte: `${prefix}${DELIMITER}`, lt: `${prefix}${DELIMITER}${END}` };
}

export function headKey(stream: StreamId): string {
  return key('head', stream);
}

export function pageKey(stream: StreamId, incarnation: number, first: number): string {
  return key('page', stream, incarnation, first);
}

export function checkpointKey(stream: StreamId, seq: number): string {
  return key('checkpoint', stream, seq);
}

export function chunkKey(id: string, index: number): string {
  return key('chunk', id, index);
}

/** All rows of one kind. */
export function spaceRange(space: Space): KeyRange {
  return under(space);
}

/** All pages of a stream, of whatever incarnation. */
export function pagesRange(stream: StreamId): KeyRange {
  return under(key('page', stream));
}

/** All checkpoint rows of a stream. */
export function checkpointsRange(stream: StreamId): KeyRange {
  return under(key('checkpoint', stream));
}

/** All chunks of a checkpoint. */
export function chunksRange(id: string): KeyRange {
  return under(key('chunk', id));
}

/** What follows the kind of row: the stream, or the id of a checkpoint. */
export function ownerOf(rowKey: string): string {
  return rowKey.split(DELIMITER)[1] ?? '';
}

/** The number that a key ends with. */
export function numberOf(rowKey: string): number {
  return Number(rowKey.slice(rowKey.lastIndexOf(DELIMITER) + 1));
}
