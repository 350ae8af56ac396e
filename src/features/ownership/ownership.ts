/**
 * Taking over datasets from their owner, as a standby does when that is gone or is to rest (design §1: owner, epoch).
 *
 * What this module believes:
 *
 * 1. Whoever takes a dataset asks its owner, and has all that the owner has, unless people here say that the owner cannot be asked.
 * 2. A claim goes into this node's own stream, in an epoch behind all others. Whoever lets this node take over datasets of the tree follows it.
 * 3. The former owner has to hear of it, so it may read the tree here from then on.
 */
import { type MirrorPlace, mirrorsOf, rootsOf } from '../../core/admin.ts';
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { Ownership as OwnerAndEpoch, OwnershipClaimed } from '../../core/events.ts';
import { isAllowed, noTreeFor } from '../../core/grants.ts';
import { type Dataset, requireDataset } from '../../core/graph/graph.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isHidden,
  isLineage,
  type NodeId,
  type RelativeName,
  type TreeName,
} from '../../core/ids.ts';
import { epochAfter, FIRST_EPOCH, OWNER_PROPERTY, ownerMark } from '../../core/ownership.ts';
import { isPlaceholder, PLACEHOLDER_PROPERTY } from '../../core/plan/steps.ts';
import { REPLICA_PROPERTIES, REPLICA_PROPERTY } from '../../core/replica-marks.ts';
import { unlessAborted } from '../../core/unless-aborted.ts';
import { withinTime } from '../../sync/timers.ts';
import { checked } from '../../transfer/protocol.ts';
import { ownProperties } from '../../transfer/replica-properties.ts';
import type { ListedDataset } from '../../zfs/zfs.ts';
import type { OwnershipParts } from './parts.ts';
import { TAKE, takeSchema } from './protocol.ts';

export interface OwnershipOptions extends OwnershipParts {
  readonly onRefused: (peer: NodeId, tree: TreeName) => void;
  readonly call: (peer: NodeId, method: string, params: unknown, signal: AbortSignal) => Promise<unknown>;
  /** Runs a task while no mirror of the tree is synced; with a reason, what is synced now is cancelled for it. */
  readonly alone: <Result>(
    tree: TreeName,
    task: (signal: AbortSignal) => Promise<Result>,
    cancel: PandoError | null,
  ) => Promise<Result>;
  /** Has the peer look at its ZFS, and brings what is known of its tree up to date. */
  readonly hear: (mirror: MirrorPlace) => Promise<void>;
  /** Datasets for which a sync would do something now. */
  readonly unsynced: (mirror: MirrorPlace) => ReadonlySet<DatasetId>;
  readonly look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>;
  /** Runs a task while nobody looks at the tree. */
  readonly unobserved: <Result>(tree: TreeName, task: () => Promise<Result>) => Promise<Result>;
  /** Something of the tree was taken, or could not be: what was claimed of it meanwhile can be yielded. */
  readonly onTaken: (tree: TreeName) => void;
}

export interface TakeRequest {
  readonly tree: TreeName;
  readonly name: RelativeName;
  /** Also what lies below. */
  readonly recursive: boolean;
  /** Whether it is taken from an owner that cannot be asked: what this node does not have of it stays with the owner, and is kept aside there should it come back. */
  readonly withoutOwner: boolean;
}

/** What came of it. */
export interface Taken {
  /** Those that were not this node's own before, and those whose taking had been cut short: `from` is this node then. */
  readonly datasets: readonly { readonly name: RelativeName; readonly epoch: number; readonly from: NodeId }[];
  /** Former owners that were granted to read the tree here, so that they hear of it. */
  readonly letRead: readonly NodeId[];
}

export class Ownership {
  readonly #options: OwnershipOptions;

  constructor(options: OwnershipOptions) {
    this.#options = options;
  }

  /**
   * Makes this node the owner of a replica: it may be written to here, and others follow. Rejects with `TREE_UNKNOWN` or `DATASET_UNKNOWN` for what is not here, and `PLAN_CONFLICT` where something else has its name
   * by now; unless `withoutOwner`, with what keeps the owner from being asked, `GRANT_MISSING` where that does not let this node take it, and `REPLICA_BEHIND` while a sync would still bring something.
   */
  take(request: TakeRequest): Promise<Taken> {
    const { tree, withoutOwner } = request;
    const reason = new PandoError('TRANSFER_CANCELLED', `This node takes over datasets of "${tree}"; the sync ended.`, {
      tree,
    });
    return this.#options.alone(tree, (signal) => this.#takeAlone(request, signal), withoutOwner ? reason : null);
  }

  /** Tells a peer whether it may take over datasets of the tree. Rejects with `TREE_UNKNOWN` for one that it may not read, else `GRANT_MISSING`. */
  async answer(peer: NodeId, params: unknown): Promise<null> {
    const { allows, onRefused } = this.#options;
    const { tree } = checked(takeSchema, params, TAKE);
    if (allows(peer, tree, 'take')) return null;
    onRefused(peer, tree);
    if (!allows(peer, tree, 'read')) throw noTreeFor(tree);
    throw new PandoError(
      'GRANT_MISSING',
      `You are no standby of tree "${tree}" here; have somebody there grant it with "pando grant add … ${tree} --role standby".`,
      { tree },
    );
  }

  async #takeAlone(request: TakeRequest, signal: AbortSignal): Promise<Taken> {
    const { look, unobserved, onTaken } = this.#options;
    const { tree, withoutOwner } = request;
    const consulted = new Set<NodeId>();
    const letRead: NodeId[] = [];
    for (;;) {
      const owners = this.#owners(request).filter((owner) => !consulted.has(owner));
      if (!withoutOwner) for (const owner of owners) await this.#consult(request, owner, signal);
      for (const owner of owners) consulted.add(owner);
      if (this.#replicas(request).length === 0) return { datasets: [], letRead };
      letRead.push(...(await this.#letRead(tree, owners)));
      const datasets = await unobserved(tree, () => this.#claimFrom(consulted, request)).finally(() => onTaken(tree));
      if (datasets === undefined) continue;
      await look(
        tree,
        datasets.map(({ name }) => name),
      );
      return { datasets, letRead };
    }
  }

  /** Who else owns what is asked for. */
  #owners(request: TakeRequest): NodeId[] {
    const owners = new Set(this.#replicas(request).map(({ owner }) => owner.node));
    return [...owners].filter((owner) => owner !== this.#options.history.node);
  }

  /** Claims all, unless one belongs to somebody by now who was not consulted: then undefined. While nobody looks and nothing of it is yielded, or it would be given up while it can already be written to. */
  async #claimFrom(consulted: ReadonlySet<NodeId>, request: TakeRequest): Promise<Taken['datasets'] | undefined> {
    const { taking } = this.#options;
    if (this.#owners(request).some((owner) => !consulted.has(owner))) return undefined;
    const taken = this.#replicas(request);
    await this.#requireInPlace(request.tree, taken);
    for (const { id } of taken) taking.add(id);
    try {
      return await this.#claimAll(request.tree, taken);
    } finally {
      for (const { id } of taken) taking.delete(id);
    }
  }

  #rootOf(tree: TreeName): DatasetName {
    return rootsOf(this.#options.admin.state).get(tree) as DatasetName;
  }

  /** Throws `PLAN_CONFLICT` where somebody has renamed one since it was looked at: what has its name now is not to be written to. */
  async #requireInPlace(tree: TreeName, datasets: readonly Dataset[]): Promise<void> {
    const [moved] = await this.#inTheirPlaces(tree, datasets);
    if (moved === undefined) return;
    throw new PandoError(
      'PLAN_CONFLICT',
      `${moved.name} was to be taken over, but is another dataset by now; see what is where ("pando graph ${tree}") and try again.`,
      { tree, dataset: moved.name },
    );
  }

  /** Fences what was opened in the place of another: ZFS is told names, and somebody gave one to something else in that moment. */
  async #fenceOthers(tree: TreeName, taken: readonly Dataset[]): Promise<void> {
    const { graph, history, zfs } = this.#options;
    for (const { name, kind, properties } of await this.#inTheirPlaces(tree, taken)) {
      const known = graph(tree).get(properties[ID_PROPERTY] as DatasetId);
      await zfs.inheritProperty([name], OWNER_PROPERTY);
      // What nobody has seen yet somebody here has just made
      if (known !== undefined && known.owner.node !== history.node)
        await zfs.setProperties([name], REPLICA_PROPERTIES[kind]);
    }
  }

  /** What is where these should be, and is none of them. */
  async #inTheirPlaces(tree: TreeName, datasets: readonly Dataset[]): Promise<ListedDataset[]> {
    const { zfs } = this.#options;
    const root = this.#rootOf(tree);
    const ids = new Map<string, DatasetId>(datasets.map(({ id, name }) => [absoluteName(root, name), id]));
    const listed = await zfs.listOnly([...ids.keys()] as DatasetName[]);
    return listed.filter(({ name, properties }) => properties[ID_PROPERTY] !== ids.get(name));
  }

  async #claimAll(tree: TreeName, taken: readonly Dataset[]): Promise<Taken['datasets']> {
    const { node } = this.#options.history;
    const claims = taken
      .filter(({ owner }) => owner.node !== node || owner.isGuess === true)
      .map(
        (dataset): OwnershipClaimed => ({
          type: 'ownership.claimed',
          dataset: dataset.id,
          owner: this.#claim(tree, dataset),
        }),
      );
    // The claim first: what can be written to is this node's own, also where the rest is cut short
    await this.#options.history.record(tree, 'command', claims);
    const epochs = new Map(claims.map(({ dataset, owner }) => [dataset, owner.epoch]));
    const datasets = taken.map(({ id, name, owner }) => ({
      name,
      epoch: epochs.get(id) ?? owner.epoch,
      from: owner.node,
    }));
    await this.#markAsTaken(tree, datasets);
    await this.#makeWritable(tree, taken);
    await this.#fenceOthers(tree, taken);
    return datasets;
  }

  async #markAsTaken(tree: TreeName, datasets: Taken['datasets']): Promise<void> {
    const { history, zfs } = this.#options;
    const root = this.#rootOf(tree);
    for (const epoch of new Set(datasets.map((one) => one.epoch))) {
      const names = datasets.flatMap((one) => (one.epoch === epoch ? [absoluteName(root, one.name)] : []));
      await zfs.setProperties(names, { [OWNER_PROPERTY]: ownerMark({ node: history.node, epoch }) });
    }
  }

  /** What only gave others a parent becomes a dataset that people can mount and write to. */
  async #makeWritable(tree: TreeName, taken: readonly Dataset[]): Promise<void> {
    const { zfs } = this.#options;
    const root = this.#rootOf(tree);
    const namesOf = (some: readonly Dataset[]) => some.map(({ name }) => absoluteName(root, name));
    const placeholders = namesOf(taken.filter(isPlaceholder));
    // In this order: as long as it is readonly, taking it again makes good what was cut short
    if (placeholders.length > 0) await zfs.inheritProperty(placeholders, PLACEHOLDER_PROPERTY);
    const neverMounted = namesOf(taken.filter(({ properties }) => properties.canmount === 'off'));
    if (neverMounted.length > 0) await zfs.setProperties(neverMounted, { canmount: 'noauto' });
    for (const kind of ['filesystem', 'volume'] as const) {
      const names = namesOf(taken.filter((one) => one.kind === kind));
      if (names.length > 0) await zfs.setProperties(names, ownProperties(kind, 'people'));
    }
    const volumes = namesOf(taken.filter(({ kind }) => kind === 'volume'));
    if (volumes.length > 0) await zfs.inheritProperty(volumes, REPLICA_PROPERTY);
  }

  /**
   * What is asked for and belongs to others, is only guessed to be this node's own, or was taken over by it and cannot be written to yet, since that was cut short. What is hidden, or holds a lineage, belongs to
   * no person.
   */
  #replicas({ tree, name, recursive }: TakeRequest): Dataset[] {
    const { graph, history } = this.#options;
    const known = graph(tree);
    const first = requireDataset(known, name);
    const below = recursive ? known.sorted().filter((one) => name === '' || one.name.startsWith(`${name}/`)) : [];
    return [first, ...below.filter(({ id }) => id !== first.id)].filter(
      (one) => !isOwnForGood(one, history.node) && !isHidden(one.name) && !isLineage(one.name),
    );
  }

  /** Belief 1. */
  async #consult(request: TakeRequest, owner: NodeId, signal: AbortSignal): Promise<void> {
    const { tree } = request;
    const { admin, timers, call, hear } = this.#options;
    const mirror = mirrorsOf(admin.state, tree).find(({ from }) => from === owner);
    if (mirror === undefined) throw cannotAsk(tree, owner);
    try {
      await withinTime(timers, { ms: CONSULT_MS_MAX, reason: () => silentOwner(owner) }, async (limit) => {
        const given = AbortSignal.any([signal, limit]);
        await unlessAborted(call(owner, TAKE, { tree }, given), given);
        await unlessAborted(hear(mirror), given);
      });
    } catch (error) {
      if (!isPandoError(error) || REFUSALS.has(error.code) || signal.aborted) throw error;
      throw withWayOut(error);
    }
    const unsynced = this.#options.unsynced(mirror);
    const behind = this.#replicas(request).filter(({ id }) => unsynced.has(id));
    if (behind.length > 0) throw replicaBehind(tree, behind);
  }

  /** Belief 3. */
  async #letRead(tree: TreeName, owners: readonly NodeId[]): Promise<NodeId[]> {
    const blind: NodeId[] = [];
    await this.#options.admin.change(({ peers, grants }) => {
      const known = owners.filter((owner) => peers.has(owner));
      blind.push(...known.filter((owner) => !isAllowed(grants, owner, tree, 'read')));
      return blind.map((peer) => ({ type: 'grant.given' as const, peer, trees: tree, role: 'reader' as const }));
    });
    return blind;
  }

  /** Belief 2. */
  #claim(tree: TreeName, { id, owner }: Dataset): OwnerAndEpoch {
    const { history, claims } = this.#options;
    const claimed = claims(tree)(id);
    return { node: history.node, epoch: epochAfter(claimed === undefined ? [owner] : [owner, claimed]) };
  }
}

/** How long the owner may take to answer and to look at its ZFS, in ms: a minute, since it may have to list a large pool first. */
const CONSULT_MS_MAX = 60_000;

/** What the owner says no with: taking it all the same would only make two owners. */
const REFUSALS: ReadonlySet<PandoError['code']> = new Set(['GRANT_MISSING', 'TREE_UNKNOWN']);

function withWayOut(error: PandoError): PandoError {
  return new PandoError(
    error.code,
    `${error.message} If the owner is gone for good, say --without-owner: what it has not sent is not here, and is kept aside there should it come back.`,
    error.evidence,
    { cause: error },
  );
}

function cannotAsk(tree: TreeName, owner: NodeId): PandoError {
  return new PandoError(
    'MIRROR_UNKNOWN',
    `The owner ${owner} cannot be asked, since "${tree}" is not mirrored from it; add that mirror, or say --without-owner if it is gone for good.`,
    { tree, owner },
  );
}

function replicaBehind(tree: TreeName, behind: readonly Dataset[]): PandoError {
  const names = behind.map(({ name }) => (name === '' ? tree : `${tree}/${name}`));
  return new PandoError(
    'REPLICA_BEHIND',
    `The owner has more than is here of ${names.slice(0, NAMES_SAID_MAX).join(', ')}${names.length > NAMES_SAID_MAX ? ' …' : ''}; run "pando sync ${tree}" first.`,
    { tree, names: names.slice(0, NAMES_SAID_MAX) },
  );
}

function silentOwner(owner: NodeId): PandoError {
  return new PandoError(
    'PROTOCOL_TIMEOUT',
    `The owner ${owner} is connected but has not answered for ${CONSULT_MS_MAX / 1_000} seconds.`,
    { owner },
  );
}

function isOwnForGood({ owner, properties }: Dataset, node: NodeId): boolean {
  const isHalfTaken = owner.epoch > FIRST_EPOCH && properties.readonly === 'on';
  return owner.node === node && owner.isGuess !== true && !isHalfTaken;
}

/** Names in a message: enough to know where to look. */
const NAMES_SAID_MAX = 5;
