import { decodeStoredEvent } from '../core/codec/event-codec.ts';
import type { Event } from '../core/events.ts';
import type { StreamId } from '../core/ids.ts';
import { forked } from './log-errors.ts';
import type { StreamTable } from './stream-table.ts';

/** Events in a row, the first with seq `first`. */
export interface EventBatch {
  readonly first: number;
  readonly events: readonly Event[];
}

/** See {@link History.subscribe}. */
export async function* subscription(
  table: StreamTable,
  stream: StreamId,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<EventBatch> {
  const { incarnation } = table.require(stream).head;
  let next = from;
  while (!signal.aborted) {
    const { head } = table.require(stream);
    if (head.incarnation !== incarnation) throw forked(stream, `it began anew as incarnation ${head.incarnation}`);
    if (next > head.seq) {
      await table.changed(signal);
      continue;
    }
    const before = next;
    for await (const records of table.log.read(stream, next)) {
      yield { first: next, events: records.map(({ bytes }) => decodeStoredEvent(bytes)) };
      next += records.length;
      if (signal.aborted) return;
    }
    // A log that gives nothing is ahead of its table, which goes over to a new incarnation only once that is on disk
    if (next === before && table.require(stream).head === head) await table.changed(signal);
  }
}
