/**
 * The other side of a take-over: this node's own datasets that a standby has claimed become replicas of the standby's.
 *
 * 1. First nobody can write to them here any more; only then the log says that they have another owner (`reconcile` sees to that), so that there are never two writers
 *    once this node has heard of the claim.
 *    (zfs-fuse lets go on who has a file open already; what they write is kept aside with the rest.)
 * 2. They are followed from then on. What the standby does not have is kept aside, as with any replica that diverged.
 */
import { type Mirror, rootsOf } from '../../core/admin.ts';
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { DatasetCreated, Event, OwnershipClaimed, Properties } from '../../core/events.ts';
import type { Dataset, Graph } from '../../core/graph/graph.ts';
import {
  absoluteName,
  type DatasetName,
  type NodeId,
  parentOf,
  type RelativeName,
  splitStreamId,
  type TreeName,
} from '../../core/ids.ts';
import { FIRST_EPOCH, markedOwner, OWNER_PROPERTY, supersedes } from '../../core/ownership.ts';
import { EVERYTHING } from '../../core/plan/filter.ts';
import { isPlaceholder } from '../../core/plan/steps.ts';
import { Turns } from '../../log/turns.ts';
import { markReplicas } from '../../transfer/replica-properties.ts';
import type { OwnershipOptions } from './ownership.ts';
import type { OwnershipParts } from './parts.ts';

/** How long until it is tried again where ZFS could not be asked, in ms. */
const RETRY_MS = 10_000;

export interface YieldingOptions extends OwnershipParts, Pick<OwnershipOptions, 'look'> {
  /** Has this node follow what a peer owns of the tree. */
  readonly follow: (mirror: Mirror) => Promise<void>;
  readonly onYielded: (peer: NodeId, tree: TreeName, datasets: number) => void;
  readonly onTrouble: (tree: TreeName, error: PandoError) => void;
}

/** An own dataset, and who has claimed it. */
interface Claimed {
  readonly dataset: Dataset;
  readonly by: NodeId;
}

export class Yielding {
  readonly #options: YieldingOptions;
  readonly #turns = new Turns<TreeName>();
  readonly #retries = new Map<TreeName, () => void>();
  #stopped = false;
  #unsubscribe: () => void = () => undefined;

  constructor(options: YieldingOptions) {
    this.#options = options;
  }

  /** Yields what was claimed while this node was away, and from then on what is. Resolves once it has looked. */
  async start(): Promise<void> {
    const { history, admin } = this.#options;
    const stopHistory = history.onChange(({ head, events }) => {
      const { node, tree } = splitStreamId(head.stream);
      const isNews = node === history.node ? this.#isClaimed(tree, events) : this.#mayTake(node, tree);
      if (isNews && events?.some(saysOwner) !== false) void this.yield(tree);
    });
    let { grants } = admin.state;
    const stopAdmin = admin.onChange((state) => {
      if (state.grants === grants) return;
      ({ grants } = state);
      for (const tree of rootsOf(state).keys()) void this.yield(tree);
    });
    this.#unsubscribe = () => {
      stopHistory();
      stopAdmin();
    };
    await Promise.all(Array.from(rootsOf(admin.state).keys(), (tree) => this.yield(tree)));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unsubscribe();
    for (const cancel of this.#retries.values()) cancel();
    await this.#turns.idle();
  }

  /** Whether something that has only now been found here, or found to be this node's own, was claimed before, or may carry its mark though it belongs to somebody else. */
  #isClaimed(tree: TreeName, events: readonly Event[] | null): boolean {
    const said = (events ?? []).filter(saysOwner);
    if (said.length === 0) return false;
    const claimOf = this.#options.claims(tree);
    return said.some(({ type, dataset, owner }) => {
      if (owner.node !== this.#options.history.node) return type === 'ownership.claimed';
      const claim = claimOf(dataset);
      return claim !== undefined && supersedes(claim, owner);
    });
  }

  #mayTake(peer: NodeId, tree: TreeName): boolean {
    return peer !== this.#options.history.node && this.#options.allows(peer, tree, 'take');
  }

  /** Yields what of the tree is claimed now. Never rejects: what went wrong is told, and tried again. */
  yield(tree: TreeName): Promise<void> {
    return this.#turns.run(tree, async () => {
      this.#retries.get(tree)?.();
      try {
        const claimed = this.#stopped ? [] : this.#claimed(tree);
        if (claimed.length > 0) {
          await this.#look(tree, claimed);
          await this.#handOver(tree, this.#claimed(tree));
        }
        if (!this.#stopped) await this.#unmarkOthers(tree);
      } catch (error) {
        if (this.#stopped) return;
        const known = isPandoError(error) ? error : new PandoError('INTERNAL', describeError(error));
        this.#options.onTrouble(tree, known);
        this.#retries.set(
          tree,
          this.#options.timers.after(RETRY_MS, () => void this.yield(tree)),
        );
      }
    });
  }

  #claimed(tree: TreeName): Claimed[] {
    const { admin, history, graph, claims, taking } = this.#options;
    if (!rootsOf(admin.state).has(tree)) return [];
    const claimOf = claims(tree);
    return Array.from(graph(tree).datasets.values()).flatMap((dataset) => {
      if (dataset.owner.node !== history.node || taking.has(dataset.id)) return [];
      const claim = claimOf(dataset.id);
      return claim !== undefined && supersedes(claim, dataset.owner) ? [{ dataset, by: claim.node }] : [];
    });
  }

  /** What is yielded, and what stays below it, is called by name: somebody may have given those names to others. */
  async #look(tree: TreeName, claimed: readonly Claimed[]): Promise<void> {
    const { graph, history, look } = this.#options;
    const datasets = claimed.map(({ dataset }) => dataset);
    const names = [...datasets, ...keptWritable(graph(tree), datasets, history.node)].map(({ name }) => name);
    await look(tree, names);
  }

  /** Takes the mark of this node off what belongs to somebody else by the log, as where a look came before what yields it. */
  async #unmarkOthers(tree: TreeName): Promise<void> {
    const { admin, history, graph, look } = this.#options;
    const root = rootsOf(admin.state).get(tree);
    if (root === undefined) return;
    const { node } = history;
    const stale = Array.from(graph(tree).datasets.values()).filter(
      ({ owner, properties }) => owner.node !== node && markedOwner(properties, node) !== undefined,
    );
    if (stale.length === 0) return;
    await this.#unmark(root, stale);
    await look(
      tree,
      stale.map(({ name }) => name),
    );
  }

  async #unmark(root: DatasetName, datasets: readonly Dataset[]): Promise<void> {
    const names = datasets.map(({ name }) => absoluteName(root, name));
    if (names.length > 0) await this.#options.zfs.inheritProperty(names, OWNER_PROPERTY);
  }

  async #handOver(tree: TreeName, claimed: readonly Claimed[]): Promise<void> {
    const { admin, graph, history, zfs, look, follow, onYielded } = this.#options;
    const root = rootsOf(admin.state).get(tree);
    if (root === undefined || claimed.length === 0) return;
    const claimants = new Set(claimed.map(({ by }) => by));
    // First of all: once they are yielded, nothing here would remind of it
    for (const peer of claimants) await follow({ tree, from: peer, root, ...EVERYTHING });
    const datasets = claimed.map(({ dataset }) => dataset);
    // Before anybody sees that it can be yielded: then nothing would be left to do here, and the mark would outlast it
    await this.#unmark(
      root,
      datasets.filter(({ owner }) => owner.epoch > FIRST_EPOCH),
    );
    for (const { name, properties } of keptWritable(graph(tree), datasets, history.node)) {
      await zfs.setProperties([absoluteName(root, name)], properties);
    }
    await markReplicas(
      zfs,
      datasets.map((dataset) => ({
        dataset: dataset.id,
        name: absoluteName(root, dataset.name),
        kind: dataset.kind,
        isPlaceholder: isPlaceholder(dataset),
      })),
    );
    await look(
      tree,
      datasets.map(({ name }) => name),
    );
    for (const peer of claimants) onYielded(peer, tree, claimed.filter(({ by }) => by === peer).length);
  }
}

/** What a dataset has where nobody set it, here or above (zfsprops.7). */
const INHERITED: Properties = { readonly: 'off', setuid: 'on', exec: 'on', devices: 'on' };

/** Datasets right below such that go which stay this node's own, with what they would inherit of that otherwise, as it was. */
function keptWritable(
  graph: Graph,
  leaving: readonly Dataset[],
  node: NodeId,
): { readonly name: RelativeName; readonly properties: Properties }[] {
  const gone = new Set(leaving.map(({ id }) => id));
  const aboveOf = ({ name }: Dataset): Dataset | undefined => {
    const parent = parentOf(name);
    return parent === undefined ? undefined : graph.named(parent);
  };
  const effective = (dataset: Dataset | undefined, property: string): string | undefined =>
    dataset === undefined
      ? INHERITED[property]
      : (dataset.properties[property] ?? effective(aboveOf(dataset), property));
  return Array.from(graph.datasets.values()).flatMap((dataset) => {
    const above = aboveOf(dataset);
    if (gone.has(dataset.id) || dataset.owner.node !== node || above === undefined || !gone.has(above.id)) return [];
    const names = Object.keys(INHERITED).filter((property) => dataset.properties[property] === undefined);
    const fit = dataset.kind === 'volume' ? names.filter((property) => property === 'readonly') : names;
    const properties = Object.fromEntries(fit.map((property) => [property, effective(dataset, property) ?? '']));
    return fit.length === 0 ? [] : [{ name: dataset.name, properties }];
  });
}

function saysOwner(event: Event): event is Event & (DatasetCreated | OwnershipClaimed) {
  return event.type === 'ownership.claimed' || event.type === 'dataset.created';
}
