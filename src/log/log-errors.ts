/** The failures of a log in words, the same for every driver. */
import { PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { LogFault } from './log.ts';

/** `LOG_CORRUPT` with the fault as its evidence. */
export function corrupt(fault: LogFault, cause?: unknown): PandoError {
  return new PandoError(
    'LOG_CORRUPT',
    `Stream ${fault.stream} is damaged at event ${fault.seq}: expected ${fault.expected}, found ${fault.found}. ` +
      'Nothing from there on is used; "pando verify" shows the extent.',
    { ...fault },
    cause === undefined ? undefined : { cause },
  );
}

/** The fault that a `LOG_CORRUPT` of {@link corrupt} carries. */
export function faultOf(error: PandoError): LogFault {
  return error.evidence as unknown as LogFault;
}

/** `LOG_GAP`: what comes does not follow on what is there. */
export function gap(stream: StreamId, expected: number, found: number): PandoError {
  return new PandoError(
    'LOG_GAP',
    `Stream ${stream} goes on with event ${expected}, but event ${found} was handed in; send what is missing first.`,
    { stream, expected, found },
  );
}

/** `LOG_FORKED`: two histories claim the same place. */
export function forked(stream: StreamId, why: string): PandoError {
  return new PandoError('LOG_FORKED', `Stream ${stream} cannot go on like that: ${why}.`, { stream });
}

export function unknownStream(stream: StreamId): PandoError {
  return new PandoError('STREAM_UNKNOWN', `Nothing is known of stream ${stream}; "pando status" lists the streams.`, {
    stream,
  });
}

export function compacted(stream: StreamId, from: number, oldest: number): PandoError {
  return new PandoError(
    'LOG_COMPACTED',
    `Event ${from} of stream ${stream} was compacted away; the oldest that is kept is event ${oldest}.`,
    { stream, from, oldest },
  );
}

export function closed(): PandoError {
  return new PandoError('LOG_CLOSED', 'The log is closed; start Pando again to use it.');
}
