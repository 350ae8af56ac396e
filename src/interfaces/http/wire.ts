/**
 * How values travel between daemon and client: as JSON, errors as `{ code, message, evidence }` wherever they occur, a graph as its root
 * and a list of datasets. Guids are texts, since 64 bits are more than a JSON number holds.
 *
 * A long operation answers in lines of JSON (NDJSON): any number that tell how it goes, and as the last `{"type":"result",…}` or
 * `{"type":"error","error":…}`. A stream without such an end was cut short.
 */
import { ERROR_CODES, type ErrorCode, type Evidence, PandoError } from '../../core/errors.ts';
import type { Event } from '../../core/events.ts';
import { type Dataset, Graph } from '../../core/graph/graph.ts';
import type { DatasetName } from '../../core/ids.ts';
import type { Plan } from '../../core/plan/steps.ts';
import type { SyncReport } from '../../features/mirrors/mirror-syncs.ts';
import type { TreeVerification } from '../../features/verify/verifier.ts';
import type { TransferProgress } from '../../transfer/progress.ts';

export const NDJSON = 'application/x-ndjson';

export type ErrorLine = { readonly type: 'error'; readonly error: PandoError };
export type SyncLine =
  | { readonly type: 'plan'; readonly plan: Plan }
  | { readonly type: 'progress'; readonly progress: TransferProgress }
  | { readonly type: 'result'; readonly report: Omit<SyncReport, 'plan'> }
  | ErrorLine;
export type LogLine = { readonly type: 'event'; readonly event: Event } | { readonly type: 'result' } | ErrorLine;
export type VerifyLine = { readonly type: 'result'; readonly verification: TreeVerification } | ErrorLine;

export interface WireGraph {
  readonly root: DatasetName | null;
  readonly datasets: readonly Dataset[];
}

export function encodeGraph(graph: Graph): WireGraph {
  return { root: graph.root, datasets: graph.sorted() };
}

export function decodeGraph({ root, datasets }: WireGraph): Graph {
  return new Graph(root, new Map(datasets.map((dataset) => [dataset.id, dataset])));
}

const KNOWN_CODES: ReadonlySet<string> = new Set(ERROR_CODES);

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function reviveError(value: unknown): PandoError | undefined {
  if (!isObject(value) || Object.keys(value).length !== 3) return undefined;
  const { code, message, evidence } = value;
  if (typeof code !== 'string' || typeof message !== 'string' || !isObject(evidence)) return undefined;
  const known = KNOWN_CODES.has(code) ? (code as ErrorCode) : 'INTERNAL';
  return new PandoError(known, message, evidence as Evidence);
}

/** Reads an answer of the daemon; errors in it are PandoErrors again. Throws `DAEMON_UNREACHABLE` for what is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text, (_key, value: unknown) => reviveError(value) ?? value);
  } catch (cause) {
    throw new PandoError(
      'DAEMON_UNREACHABLE',
      'What answers on the socket is not this version of pando; start "pando serve" again after an update.',
      { answer: text.slice(0, 200) },
      { cause },
    );
  }
}
