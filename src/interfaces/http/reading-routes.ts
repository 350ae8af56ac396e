import type { FastifyInstance } from 'fastify';
import { lastTimestampAt } from '../../core/clock.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { parseTreeName, type StreamId } from '../../core/ids.ts';
import { begun, logStreamOf, requireStream, streamOf } from './known-streams.ts';
import type { LineStreams, TellLine } from './lines.ts';
import { namedMirror } from './named-mirror.ts';
import { checked, graphQuerySchema, logQuerySchema } from './requests.ts';
import type { DaemonServices } from './services.ts';
import { statusOf } from './status.ts';
import { encodeGraph } from './wire.ts';

interface LogRange {
  readonly from?: number | undefined;
  readonly follow: boolean;
}

/** Status, plans, graphs and logs. */
export function readingRoutes(app: FastifyInstance, services: DaemonServices, streams: LineStreams): void {
  const { node, version, mirrors } = services;

  app.get('/v1/node', () => ({ node, version }));
  app.get('/v1/status', () => statusOf(services));
  app.get<{ Params: { tree: string } }>('/v1/mirrors/:tree/plan', ({ params, query }) =>
    mirrors.plan(...namedMirror(services, params.tree, query)),
  );

  app.get<{ Params: { tree: string } }>('/v1/graphs/:tree', async ({ params, query }) => {
    const { node: who, at } = checked(graphQuerySchema, query);
    const stream = streamOf(services, parseTreeName(params.tree), who);
    requireStream(services, stream, who);
    return encodeGraph(await graphOf(services, stream, at));
  });

  app.get('/v1/log', ({ query }, reply) => {
    const { tree, node, transfers, ...range } = checked(logQuerySchema, query);
    const stream = logStreamOf(services, { tree, node, transfers });
    if (tree !== undefined) requireStream(services, stream, node);
    return streams.start(reply, async (tell, signal, drained) => {
      await tellLog(services, stream, range, { tell, signal, drained });
      signal.throwIfAborted();
      return { type: 'result' };
    });
  });
}

function graphOf({ history }: DaemonServices, stream: StreamId, at: number | undefined): Graph | Promise<Graph> {
  return at === undefined ? history.graph(stream) : history.graphAt(stream, lastTimestampAt(at));
}

interface Listener {
  readonly tell: TellLine;
  readonly signal: AbortSignal;
  readonly drained: () => Promise<void>;
}

/** Tells a log from its oldest event on, or from seq `from`; with `follow`, also each one that comes, until nobody listens. */
async function tellLog(
  { history }: DaemonServices,
  stream: StreamId,
  { from, follow }: LogRange,
  { tell, signal, drained }: Listener,
): Promise<void> {
  if (follow) await begun(history, stream, signal);
  if (signal.aborted || history.head(stream) === null) return;
  const first = from ?? (await history.oldest(stream));
  const batches = follow ? history.subscribe(stream, first, signal) : asBatches(history.events(stream, first));
  for await (const { events } of batches) {
    for (const event of events) tell({ type: 'event', event });
    await drained();
    if (signal.aborted) return;
  }
}

async function* asBatches<Event>(batches: AsyncIterable<readonly Event[]>) {
  for await (const events of batches) yield { events };
}
