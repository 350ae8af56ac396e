import type { FastifyInstance } from 'fastify';
import { parseTreeName } from '../../core/ids.ts';
import { unlessAborted } from '../../core/unless-aborted.ts';
import type { LineStreams } from './lines.ts';
import { namedMirror } from './named-mirror.ts';
import { checked, syncSchema } from './requests.ts';
import type { DaemonServices } from './services.ts';

/** Syncs and verifications: told in lines while they run. */
export function operationRoutes(app: FastifyInstance, services: DaemonServices, streams: LineStreams): void {
  const { mirrors, trees, verifier } = services;

  app.post<{ Params: { tree: string } }>('/v1/mirrors/:tree/sync', ({ params, query, body }, reply) => {
    const { refresh, bytesPerSecond } = checked(syncSchema, body);
    const { tree, from } = mirrors.get(...namedMirror(services, params.tree, query));
    return streams.start(reply, async (tell, signal) => {
      const { plan: _told, ...report } = await mirrors.sync(
        tree,
        {
          signal,
          refresh,
          bytesPerSecond,
          onPlan: (plan) => tell({ type: 'plan', plan }),
          onProgress: (progress) =>
            tell({ type: 'progress', progress }, { optional: progress.kind === 'step-progress' }),
        },
        from,
      );
      return { type: 'result', report };
    });
  });

  app.post<{ Params: { tree: string } }>('/v1/trees/:tree/verify', ({ params }, reply) => {
    const tree = parseTreeName(params.tree);
    trees.rootOf(tree);
    return streams.start(reply, async (_tell, signal) => {
      const verification = await unlessAborted(verifier.verify(tree), signal);
      return { type: 'result', verification };
    });
  });
}
