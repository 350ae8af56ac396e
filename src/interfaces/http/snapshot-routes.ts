import type { FastifyInstance } from 'fastify';
import { PandoError } from '../../core/errors.ts';
import { parseFilters } from '../../core/snapshots/filter.ts';
import { writeSnapshot } from '../../core/snapshots/written-snapshot.ts';
import type { SnapshotService } from '../../features/snapshots/snapshot-service.ts';
import {
  checked,
  commitSnapshotSchema,
  createSnapshotSchema,
  labelSnapshotSchema,
  snapshotFiltersSchema,
  snapshotKeySchema,
} from './requests.ts';
import type { DaemonServices } from './services.ts';

const PATH = '/v1/snapshots';

/** Snapshots as containerd has them. Keys stand in queries and bodies: a path takes no more than a hundred characters for one. */
export function snapshotRoutes(app: FastifyInstance, { snapshots }: DaemonServices): void {
  const service = (): SnapshotService => {
    if (snapshots !== null) return snapshots;
    throw new PandoError(
      'LAYER_STORE_UNKNOWN',
      'This node keeps no layers; "pando layers init" makes a place for them.',
    );
  };

  app.get(PATH, async ({ query }) => {
    const matches = parseFilters(checked(snapshotFiltersSchema, query).filter);
    return (await service().list()).filter(matches).map(writeSnapshot);
  });

  app.get(`${PATH}/info`, async ({ query }) =>
    writeSnapshot(await service().stat(checked(snapshotKeySchema, query).key)),
  );

  app.get(`${PATH}/mounts`, ({ query }) => service().mounts(checked(snapshotKeySchema, query).key));

  app.get(`${PATH}/usage`, ({ query }) => service().usage(checked(snapshotKeySchema, query).key));

  app.post(`${PATH}/prepare`, ({ body }) => {
    const { key, parent, labels } = checked(createSnapshotSchema, body);
    return service().prepare(key, parent, labels);
  });

  app.post(`${PATH}/view`, ({ body }) => {
    const { key, parent, labels } = checked(createSnapshotSchema, body);
    return service().view(key, parent, labels);
  });

  app.post(`${PATH}/commit`, async ({ body }, reply) => {
    const { name, key, labels } = checked(commitSnapshotSchema, body);
    await service().commit(name, key, labels);
    return reply.code(204).send();
  });

  app.post(`${PATH}/label`, async ({ body }) => {
    const { key, labels, fields } = checked(labelSnapshotSchema, body);
    return writeSnapshot(await service().update(key, labels, fields));
  });

  app.delete(PATH, async ({ query }, reply) => {
    await service().remove(checked(snapshotKeySchema, query).key);
    return reply.code(204).send();
  });
}
