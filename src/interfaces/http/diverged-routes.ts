import type { FastifyInstance } from 'fastify';
import { parseRelativeName, parseTreeName } from '../../core/ids.ts';
import { checked, restoreSchema } from './requests.ts';
import type { DaemonServices } from './services.ts';

/** What diverged from its owner: listed, restored and dropped. */
export function divergedRoutes(app: FastifyInstance, { diverged }: DaemonServices): void {
  app.get<{ Params: { tree: string } }>('/v1/diverged/:tree', ({ params }) =>
    diverged.list(parseTreeName(params.tree)),
  );

  app.post<{ Params: { tree: string; copy: string } }>('/v1/diverged/:tree/:copy', async ({ params, body }, reply) => {
    const { name } = checked(restoreSchema, body);
    await diverged.restore(parseTreeName(params.tree), params.copy, parseRelativeName(name));
    return reply.code(204).send();
  });

  app.delete<{ Params: { tree: string; copy: string } }>('/v1/diverged/:tree/:copy', async ({ params }, reply) => {
    await diverged.drop(parseTreeName(params.tree), params.copy);
    return reply.code(204).send();
  });
}
