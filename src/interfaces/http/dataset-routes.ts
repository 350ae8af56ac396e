import type { FastifyInstance } from 'fastify';
import { parseRelativeName, parseSnapshotName } from '../../core/ids.ts';
import { applyChange, type TreeChange } from '../../features/trees/tree-changes.ts';
import { parseDatasetPlace, parseSnapshotPlace } from '../../features/trees/tree-names.ts';
import {
  checked,
  cloneSchema,
  destroySchema,
  ownSchema,
  promoteSchema,
  renameSchema,
  rollbackSchema,
  snapshotSchema,
} from './requests.ts';
import type { DaemonServices } from './services.ts';

/** What the body of a request asks for, and of which node; of this one where it names none. */
interface Asked {
  readonly on?: string | undefined;
  readonly change: TreeChange;
}

const CHANGES: Readonly<Record<string, (body: unknown) => Asked>> = {
  snapshot: (body) => {
    const { snapshot, recursive, on } = checked(snapshotSchema, body);
    return { on, change: { change: 'snapshot', ...parseSnapshotPlace(snapshot), recursive } };
  },
  clone: (body) => {
    const { snapshot, name, on } = checked(cloneSchema, body);
    return { on, change: { change: 'clone', ...parseSnapshotPlace(snapshot), to: parseRelativeName(name) } };
  },
  rename: (body) => {
    const { from, to, on } = checked(renameSchema, body);
    const change: TreeChange = from.includes('@')
      ? { change: 'rename-snapshot', ...parseSnapshotPlace(from), to: parseSnapshotName(to) }
      : { change: 'rename', ...parseDatasetPlace(from), to: parseRelativeName(to) };
    return { on, change };
  },
  promote: (body) => {
    const { dataset, on } = checked(promoteSchema, body);
    return { on, change: { change: 'promote', ...parseDatasetPlace(dataset) } };
  },
  rollback: (body) => {
    const { snapshot, destroyNewer, on } = checked(rollbackSchema, body);
    return { on, change: { change: 'rollback', ...parseSnapshotPlace(snapshot), destroyNewer } };
  },
  destroy: (body) => {
    const { target, on } = checked(destroySchema, body);
    const change: TreeChange = target.includes('@')
      ? { change: 'destroy-snapshot', ...parseSnapshotPlace(target) }
      : { change: 'destroy', ...parseDatasetPlace(target) };
    return { on, change };
  },
};

/** What people do to datasets and snapshots through Pando. Places are written `TREE/NAME` and `TREE/NAME@SNAPSHOT`. */
export function datasetRoutes(app: FastifyInstance, { trees, operators, ownership, peers }: DaemonServices): void {
  for (const [path, asked] of Object.entries(CHANGES)) {
    app.post(`/v1/${path}`, async ({ body }, reply) => {
      const { on, change } = asked(body);
      if (on === undefined) await applyChange(trees, change, 'people');
      else await operators.ask(peers.resolve(on), change);
      return reply.code(204).send();
    });
  }

  app.post('/v1/own', ({ body }) => {
    const { dataset, ...options } = checked(ownSchema, body);
    return ownership.take({ ...parseDatasetPlace(dataset), ...options });
  });
}
