/**
 * What clients may ask, as shapes. Names and ids travel as people typed them and are parsed by the handlers, so that the answer to a
 * wrong one is the same sentence everywhere.
 */
import { z } from 'zod';
import { PandoError } from '../../core/errors.ts';
import { GLOBS_MAX } from '../../core/events.ts';
import { ROLES } from '../../core/grants.ts';
import { SNAPSHOT_KEY_CHARACTERS_MAX } from '../../core/layer-events.ts';
import { LABEL_BYTES_MAX } from '../../core/snapshots/snapshot.ts';

/** Longest word a request may carry, in characters: a full snapshot name has at most 511. */
const WORD_CHARACTERS_MAX = 1024;

/** Longest name of where an image comes from, in characters: a path (PATH_MAX), with what it is called there. */
const SOURCE_CHARACTERS_MAX = 4_608;

const word = z.string().min(1).max(WORD_CHARACTERS_MAX);
const globs = z.array(z.string().min(1).max(512)).max(GLOBS_MAX);

const grant = z.strictObject({ trees: word, role: z.enum(ROLES) });

/** Null for ever. */
const graceMs = z.int().nonnegative().nullable();

/** Values in a query are texts. */
const flag = z
  .enum(['true', 'false'])
  .transform((text) => text === 'true')
  .default(false);

export const addTreeSchema = z.strictObject({ tree: word, root: word });
export const addPeerSchema = z.strictObject({
  name: word,
  node: word,
  address: word.nullable().default(null),
  grants: z.array(grant).max(GLOBS_MAX).default([]),
  trustedLink: z.boolean().default(false),
});
/** `peer` is a name or NodeId. */
export const giveGrantSchema = grant.extend({ peer: word });
export const revokeGrantSchema = z.strictObject({ peer: word, trees: word });
export const inviteSchema = grant.extend({
  /** Where this node is to be found; without one, where it is by its configuration. */
  address: word.nullable().default(null),
  lifetimeMs: z.int().positive(),
  name: word.nullable().default(null),
});
export const joinSchema = z.strictObject({
  line: word,
  /** What to call the inviting node here. */
  as: word.nullable().default(null),
  /** What this node calls itself there; without one, as its host. */
  name: word.nullable().default(null),
  address: word.nullable().default(null),
  /** What the inviting node may read here. */
  shares: globs.default([]),
});
export const addMirrorSchema = z.strictObject({
  tree: word,
  /** Name or NodeId of a peer. */
  from: word,
  root: word,
  only: globs.default([]),
  except: globs.default([]),
  keep: word.default('all'),
  graceMs: graceMs.default(null),
});
/** What is left out stays as it is. */
export const changeMirrorSchema = z.strictObject({
  only: globs.optional(),
  except: globs.optional(),
  keep: word.optional(),
  graceMs: graceMs.optional(),
});
/** Which mirror of a tree, where there are several: name or NodeId of its peer. */
export const mirrorQuerySchema = z.strictObject({ from: word.optional() });
const bytesPerSecond = z.int().positive();
export const syncSchema = z.strictObject({
  refresh: z.boolean().default(false),
  bytesPerSecond: bytesPerSecond.optional(),
});
/** `peer` is a name or NodeId, or null for all; a null rate is no limit. */
export const limitSchema = z.strictObject({ peer: word.nullable(), bytesPerSecond: bytesPerSecond.nullable() });
/** Null is what the configuration says. */
export const contributionLimitsSchema = z.strictObject({
  peer: word,
  filesystems: z.int().min(0).nullable(),
  snapshots: z.int().min(0).nullable(),
});
/** The peer that is to do it; this node where none is named. */
const on = word.optional();
export const snapshotSchema = z.strictObject({ snapshot: word, recursive: z.boolean().default(false), on });
export const cloneSchema = z.strictObject({ snapshot: word, name: word, on });
export const renameSchema = z.strictObject({ from: word, to: word, on });
export const promoteSchema = z.strictObject({ dataset: word, on });
export const ownSchema = z.strictObject({
  dataset: word,
  recursive: z.boolean().default(false),
  withoutOwner: z.boolean().default(false),
});
export const rollbackSchema = z.strictObject({ snapshot: word, destroyNewer: z.boolean().default(false), on });
export const restoreSchema = z.strictObject({ name: word });
export const destroySchema = z.strictObject({ target: word, on });

/** Labels are limited in bytes by who keeps them. */
const labels = z.record(z.string().min(1).max(LABEL_BYTES_MAX), z.string().max(LABEL_BYTES_MAX));
const snapshotKey = z.string().min(1).max(SNAPSHOT_KEY_CHARACTERS_MAX);
export const snapshotKeySchema = z.strictObject({ key: snapshotKey });
/** Any of the filters may match; one that stands alone in a query is no list. */
export const snapshotFiltersSchema = z.strictObject({
  filter: z
    .union([z.string(), z.array(z.string())])
    .transform((given) => [given].flat())
    .default([]),
});
export const createSnapshotSchema = z.strictObject({
  key: snapshotKey,
  parent: snapshotKey.nullable().default(null),
  labels: labels.default({}),
});
export const commitSnapshotSchema = z.strictObject({ name: snapshotKey, key: snapshotKey, labels: labels.default({}) });
/** `fields` are the paths of a field mask (`SnapshotService.update`). */
export const labelSnapshotSchema = z.strictObject({ key: snapshotKey, labels, fields: z.array(z.string()) });

/** The tree of the layer store that is meant; without one, the only one that there is. */
const store = word.optional();
export const storeQuerySchema = z.strictObject({ store });
export const initLayersSchema = z.strictObject({ dataset: word });
export const collectGarbageSchema = z.strictObject({ store, dryRun: z.boolean().default(false) });
const source = z.string().min(1).max(SOURCE_CHARACTERS_MAX);
export const extractImageSchema = z.strictObject({
  store,
  source,
  name: word.nullable().default(null),
  insecure: z.boolean().default(false),
});
/** `target` is an absolute path. */
export const exportImageSchema = z.strictObject({
  store,
  image: word,
  target: source.refine((path) => path.startsWith('/'), { error: 'not an absolute path' }),
});
export const imageQuerySchema = z.strictObject({ store, image: word });
export const createRootSchema = z
  .strictObject({ store, id: word, image: word.optional(), layer: word.optional() })
  .refine(({ image, layer }) => (image === undefined) !== (layer === undefined), {
    error: 'name either an image or a layer',
  });
export const commitRootSchema = z.strictObject({ store, image: word, freeze: z.boolean().default(false) });

/** `at` is a Unix time in ms. */
export const graphQuerySchema = z.strictObject({
  node: word.optional(),
  at: z.coerce.number().int().nonnegative().optional(),
});
/** Without a tree: this node's own settings. */
export const logQuerySchema = z.strictObject({
  tree: word.optional(),
  node: word.optional(),
  from: z.coerce.number().int().positive().optional(),
  follow: flag,
  /** Without a tree: this node's journal of transfers instead of its settings. */
  transfers: flag,
});

type In<Schema extends z.ZodType> = z.input<Schema>;
export type AddTreeRequest = In<typeof addTreeSchema>;
export type AddPeerRequest = In<typeof addPeerSchema>;
export type LimitRequest = In<typeof limitSchema>;
export type ContributionLimitsRequest = In<typeof contributionLimitsSchema>;
export type GiveGrantRequest = In<typeof giveGrantSchema>;
export type InviteRequest = In<typeof inviteSchema>;
export type JoinRequest = In<typeof joinSchema>;
export type AddMirrorRequest = In<typeof addMirrorSchema>;
export type ChangeMirrorRequest = In<typeof changeMirrorSchema>;
export type SnapshotRequest = In<typeof snapshotSchema>;
export type CloneRequest = In<typeof cloneSchema>;
export type RenameRequest = In<typeof renameSchema>;
export type PromoteRequest = In<typeof promoteSchema>;
export type OwnRequest = In<typeof ownSchema>;
export type RollbackRequest = In<typeof rollbackSchema>;
export type DestroyRequest = In<typeof destroySchema>;
export type CreateSnapshotRequest = In<typeof createSnapshotSchema>;
export type CommitSnapshotRequest = In<typeof commitSnapshotSchema>;
export type ExtractImageRequest = In<typeof extractImageSchema>;
export type ExportImageRequest = In<typeof exportImageSchema>;
export type CreateRootRequest = In<typeof createRootSchema>;
export type CommitRootRequest = In<typeof commitRootSchema>;
export type CollectGarbageRequest = In<typeof collectGarbageSchema>;
export type LabelSnapshotRequest = In<typeof labelSnapshotSchema>;

/** Checks what a client sent. Throws `ARGUMENT_INVALID` with each thing that is wrong. */
export function checked<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const details = result.error.issues.map(({ path, message }) => `${path.join('.') || 'request'}: ${message}`);
  throw new PandoError('ARGUMENT_INVALID', `The request is not well formed: ${details.join('; ')}.`, { details });
}
