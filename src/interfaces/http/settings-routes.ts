import type { FastifyInstance } from 'fastify';
import { parseDatasetName, parseTreeName } from '../../core/ids.ts';
import { parseKeepRule } from '../../core/keep.ts';
import { namedMirror } from './named-mirror.ts';
import {
  addMirrorSchema,
  addTreeSchema,
  changeMirrorSchema,
  checked,
  contributionLimitsSchema,
  limitSchema,
} from './requests.ts';
import type { DaemonServices } from './services.ts';

/** Trees and mirrors, listed, added and removed; and how fast streams may be. */
export function settingsRoutes(app: FastifyInstance, services: DaemonServices): void {
  const { trees, peers, mirrors, limits } = services;

  app.get('/v1/trees', () => trees.list());
  app.post('/v1/trees', async ({ body }, reply) => {
    const { tree, root } = checked(addTreeSchema, body);
    await trees.add({ tree: parseTreeName(tree), root: parseDatasetName(root) });
    return reply.code(204).send();
  });
  app.delete<{ Params: { tree: string } }>('/v1/trees/:tree', async ({ params }, reply) => {
    await trees.remove(parseTreeName(params.tree));
    return reply.code(204).send();
  });

  app.get('/v1/mirrors', () => mirrors.list());
  app.post('/v1/mirrors', async ({ body }, reply) => {
    const { tree, from, root, keep, ...rules } = checked(addMirrorSchema, body);
    const place = { tree: parseTreeName(tree), from: peers.resolve(from).peer, root: parseDatasetName(root) };
    await mirrors.add({ ...place, ...rules, keep: parseKeepRule(keep) });
    return reply.code(204).send();
  });
  app.patch<{ Params: { tree: string } }>('/v1/mirrors/:tree', async ({ params, query, body }, reply) => {
    const { keep, ...rules } = checked(changeMirrorSchema, body);
    const [tree, from] = namedMirror(services, params.tree, query);
    const given = Object.fromEntries(Object.entries(rules).filter(([, rule]) => rule !== undefined));
    await mirrors.change(tree, { ...given, ...(keep === undefined ? {} : { keep: parseKeepRule(keep) }) }, from);
    return reply.code(204).send();
  });
  app.delete<{ Params: { tree: string } }>('/v1/mirrors/:tree', async ({ params, query }, reply) => {
    await mirrors.remove(...namedMirror(services, params.tree, query));
    return reply.code(204).send();
  });

  app.get('/v1/limits', () => limits.list());
  app.put('/v1/limits', async ({ body }, reply) => {
    const { peer, bytesPerSecond } = checked(limitSchema, body);
    await limits.set(peer === null ? null : peers.resolve(peer).peer, bytesPerSecond);
    return reply.code(204).send();
  });
  app.put('/v1/limits/contributions', async ({ body }, reply) => {
    const { peer, ...limit } = checked(contributionLimitsSchema, body);
    await limits.setContributions(peers.resolve(peer).peer, limit);
    return reply.code(204).send();
  });
}
