import type { FastifyInstance } from 'fastify';
import { parseRelativeName, parseSnapshotName } from '../../core/ids.ts';
import { parseDatasetPlace, parseSnapshotPlace } from '../../features/trees/tree-names.ts';
import {
  checked,
  cloneSchema,
  destroySchema,
  promoteSchema,
  renameSchema,
  rollbackSchema,
  snapshotSchema,
} from './requests.ts';
import type { DaemonServices } from './services.ts';

/** What people do to datasets and snapshots through Pando. Places are written `TREE/NAME` and `TREE/NAME@SNAPSHOT`. */
export function datasetRoutes(app: FastifyInstance, { trees }: DaemonServices): void {
  app.post('/v1/snapshot', async ({ body }, reply) => {
    const { snapshot, recursive } = checked(snapshotSchema, body);
    await trees.snapshot(parseSnapshotPlace(snapshot), { recursive });
    return reply.code(204).send();
  });

  app.post('/v1/clone', async ({ body }, reply) => {
    const { snapshot, name } = checked(cloneSchema, body);
    await trees.clone(parseSnapshotPlace(snapshot), parseRelativeName(name));
    return reply.code(204).send();
  });

  app.post('/v1/rename', async ({ body }, reply) => {
    const { from, to } = checked(renameSchema, body);
    if (from.includes('@')) await trees.renameSnapshot(parseSnapshotPlace(from), parseSnapshotName(to));
    else await trees.rename(parseDatasetPlace(from), parseRelativeName(to));
    return reply.code(204).send();
  });

  app.post('/v1/promote', async ({ body }, reply) => {
    const { dataset } = checked(promoteSchema, body);
    await trees.promote(parseDatasetPlace(dataset));
    return reply.code(204).send();
  });

  app.post('/v1/rollback', async ({ body }, reply) => {
    const { snapshot, destroyNewer } = checked(rollbackSchema, body);
    await trees.rollback(parseSnapshotPlace(snapshot), { destroyNewer });
    return reply.code(204).send();
  });

  app.post('/v1/destroy', async ({ body }, reply) => {
    const { target } = checked(destroySchema, body);
    if (target.includes('@')) await trees.destroySnapshot(parseSnapshotPlace(target));
    else await trees.destroy(parseDatasetPlace(target));
    return reply.code(204).send();
  });
}
