/**
 * What a node and the process that starts its commands say to each other, over the channel that Node opens between them. Nobody else can speak there, so that nothing is checked.
 *
 * A node's own end of a stream goes ahead of its `start`, with a `given`: a system that has no room for it drops the whole message. The pipes of a child come back, each with a `pipe`, before
 * its `started`.
 */
import type { ChildEnding } from './child.ts';

/** What becomes of a standard stream: `given` is what came before the order. */
export type OrderedStream = 'ignore' | 'pipe' | 'given';

/** Numbers count the children of one such process. */
export type Order =
  | { readonly say: 'given'; readonly child: number }
  | {
      readonly say: 'start';
      readonly child: number;
      readonly command: readonly string[];
      readonly stdin: OrderedStream;
      readonly stdout: OrderedStream;
    }
  | { readonly say: 'end'; readonly child: number };

export type Report =
  | { readonly say: 'pipe'; readonly child: number; readonly stream: 'stdin' | 'stdout' }
  /** Null where it could not be started; its `ended` says why. */
  | { readonly say: 'started'; readonly child: number; readonly pid: number | null }
  | { readonly say: 'ended'; readonly child: number; readonly ending: ChildEnding };
