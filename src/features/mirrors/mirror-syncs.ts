/** Brings one mirror up to date: hears its peer, lets what was cut short go on, plans, and pulls. */
import { type Mirror, type MirrorKey, type MirrorPlace, mirrorKey } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { Dataset, Graph } from '../../core/graph/graph.ts';
import { type DatasetId, type NodeId, type RelativeName, streamIdOf, type TreeName } from '../../core/ids.ts';
import { departures as departed } from '../../core/plan/departures.ts';
import { firstDue, keepsForDependents, keepsForOthers } from '../../core/plan/retention.ts';
import type { Plan, Step } from '../../core/plan/steps.ts';
import type { History } from '../../log/history.ts';
import type { CaughtUp } from '../../sync/questions.ts';
import { type Timers, withinTime } from '../../sync/timers.ts';
import { RateLimit } from '../../transfer/bandwidth.ts';
import type { Settle } from '../../transfer/completion.ts';
import { isGivingUp } from '../../transfer/giving-up.ts';
import type { Interrupted } from '../../transfer/interruptions.ts';
import { surveyHidden } from '../../transfer/preservation.ts';
import type { ProgressListener, PullReport } from '../../transfer/progress.ts';
import type { LinkMode } from '../../transfer/protocol.ts';
import type { PullRequest } from '../../transfer/pull.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import type { DepartureJournal } from './departure-journal.ts';
import { limitedBy, type Made, type MirrorPlans } from './mirror-plans.ts';
import { uncancelled } from './mirror-turns.ts';
import { isSame, notShared } from './sources.ts';

export interface MirrorSyncsOptions {
  readonly history: History;
  readonly departures: DepartureJournal;
  readonly zfs: Zfs;
  /** Brings what is known of the peer's trees up to date; `refresh` lets the peer look at its ZFS first. */
  readonly catchUp: (peer: NodeId, options: { readonly refresh: boolean }) => Promise<CaughtUp>;
  readonly timers: Timers;
  /** How long a peer that is connected may take to answer, in ms. */
  readonly answerMsMax: number;
  readonly pull: (request: PullRequest) => Promise<PullReport>;
  /** What was cut short of a mirror and can go on; null where there is nothing. */
  readonly interrupted: (request: PullRequest, source: Graph) => Promise<Interrupted | null>;
  /** Whether streams from this peer may go outside TLS. */
  readonly linkMode: (peer: NodeId) => LinkMode;
  /** Told after each plan what is left out because the peer has reached a limit: datasets by their names, none when it has not. */
  readonly onLimited: (mirror: MirrorPlace, names: readonly RelativeName[]) => void;
  /** Told of a peer that may not contribute to the tree of this node that is mirrored from it. */
  readonly onRefused: (peer: NodeId, tree: TreeName) => void;
  /** Lets the observer look at the whole mirror now, or at these datasets even where ZFS's change token says that nothing has changed. */
  readonly look: (tree: TreeName, names?: readonly RelativeName[]) => Promise<unknown>;
  /** Logs listed datasets of a mirror as received. */
  readonly settle: (tree: TreeName, ...shown: Parameters<Settle>) => Promise<unknown>;
}

export interface SyncOptions {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
  /** Told once, before the first byte. */
  readonly onPlan: (plan: Plan) => void;
  /** Whether the peer looks at its ZFS first, instead of trusting what its observer last saw. */
  readonly refresh: boolean;
  /** How fast its streams may be, in bytes a second; without one, as fast as the node's limits allow. */
  readonly bytesPerSecond?: number | undefined;
}

/** What a sync did. */
export interface SyncReport extends PullReport {
  readonly tree: TreeName;
  readonly from: NodeId;
  readonly plan: Plan;
  /** Whether something may be to be destroyed as soon as the peer can look at its ZFS again. */
  readonly awaitsLook: boolean;
}

/** The last plan of a mirror that had nothing to do, to tell that again in no time. */
interface Settled extends Made {
  readonly mirror: Mirror;
  /** Whether something was written to here, and can neither be kept aside nor received into: whether it still is only a stream shows, which people ask for. */
  readonly isModified: boolean;
  /** When time alone gives something to do, in Unix ms; null for never. */
  readonly until: number | null;
}

/**
 * How long a peer that is connected may take to answer, in ms: minutes, since it may have to list a large pool first. What comes later is stored all
 * the same, and then followed.
 */
export const ANSWER_MS_MAX = 600_000;

/** Steps that are planned against what ZFS shows now, not against what was last seen: they are told names, and another dataset may have those by now. */
const LOOKED_AT_FIRST: ReadonlySet<Step['kind']> = new Set([
  'clone',
  'destroy-dataset',
  'destroy-snapshot',
  'preserve',
  'promote',
  'rename',
  'take-root',
]);

export class MirrorSyncs {
  readonly #options: MirrorSyncsOptions;
  readonly #plans: MirrorPlans;
  readonly #receiving = new Set<TreeName>();
  readonly #settled = new Map<MirrorKey, Settled>();
  /** Mirrors whose peers were told that they have reached a limit. */
  readonly #limited = new Set<MirrorKey>();
  /** Mirrors whose last sync failed in part: more may be there than was logged. */
  readonly #unsure = new Set<MirrorKey>();

  constructor(options: MirrorSyncsOptions, plans: MirrorPlans) {
    this.#options = options;
    this.#plans = plans;
  }

  /** Whether a sync is writing into the tree now. */
  isReceiving(tree: TreeName): boolean {
    return this.#receiving.has(tree);
  }

  /** Forgets what was remembered of a mirror that is no more. */
  forget(mirror: MirrorPlace): void {
    this.#settled.delete(mirrorKey(mirror));
    this.#unsure.delete(mirrorKey(mirror));
  }

  /** See `Mirrors.sync`: whoever calls sees to it that nothing else is synced into the tree meanwhile. */
  async run(mirror: Mirror, options: SyncOptions): Promise<SyncReport> {
    const { tree, from } = mirror;
    if (!this.#plans.sources.isEntitled(mirror)) this.#options.onRefused(from, tree);
    await this.#catchUp(mirror, options);
    const settled = this.#settledPlan(mirror, options);
    if (settled !== undefined) {
      options.onPlan(settled);
      this.#tellLimits(mirror, settled);
      return { tree, from, plan: settled, steps: [], bytes: 0, awaitsLook: false };
    }
    const { made: first, isCertain } = await this.#planCertainly(mirror, options);
    const { steps, bytes, made } = await this.#resume(mirror, first, isCertain, options);
    const { plan: todo } = made;
    const about = { tree, from, awaitsLook: !isCertain };
    if (options.signal.aborted) return { ...about, plan: todo, steps, bytes };
    options.onPlan(todo);
    this.#tellLimits(mirror, todo);
    if (todo.steps.length === 0) {
      this.#settle({ ...made, mirror, isModified: false }, isCertain);
      return { ...about, plan: todo, steps, bytes };
    }
    const pulled = await this.#pull(mirror, todo, options);
    const report = { steps: [...steps, ...pulled.steps], bytes: bytes + pulled.bytes };
    const modified = modifiedIn(report);
    if (modified.size === 0 || options.signal.aborted) return { ...about, plan: todo, ...report };
    // Only now it is known that these were written to: what was written is kept, and they go on
    await this.#options.look(tree);
    const keeping = await this.#planKeeping(mirror, modified);
    const again = withoutDoubtful(keeping.plan, isCertain);
    options.onPlan(again);
    if (again.steps.length === 0) this.#settle({ ...keeping, plan: again, mirror, isModified: true }, isCertain);
    const second = await this.#pull(mirror, again, options);
    const done = report.steps.filter(({ outcome }) => outcome.result === 'done');
    return { ...about, plan: again, steps: [...done, ...second.steps], bytes: report.bytes + second.bytes };
  }

  /**
   * Brings what is known of the mirrored tree up to date; with `refresh` the peer looks at its ZFS first. Rejects with what keeps the peer from being asked, and `TREE_UNKNOWN` where it
   * shares the tree with this node no more: what is known of it then is only what was.
   */
  async hear({ tree, from }: MirrorPlace, options: { readonly refresh: boolean }): Promise<void> {
    const { shared } = await this.#options.catchUp(from, options);
    if (!shared.has(streamIdOf(from, tree))) throw notShared(tree, from);
  }

  /**
   * Nothing is destroyed for what the peer has no more unless the peer has just looked. Between two looks its log may tell of a dataset as gone that has another name by now, or of a
   * tree that was added again as empty. Where it cannot look, what is to be destroyed waits, and everything else goes on.
   */
  async #planCertainly(
    mirror: Mirror,
    options: SyncOptions,
  ): Promise<{ readonly made: Made; readonly isCertain: boolean }> {
    await this.#noticeDepartures(mirror);
    const made = await this.#planAnew(mirror);
    if (options.refresh || !made.plan.steps.some(isForDeparted)) return { made, isCertain: true };
    try {
      await this.#catchUp(mirror, { ...options, refresh: true });
    } catch (error) {
      if (options.signal.aborted) throw error;
      return { made: { ...made, plan: withoutDoubtful(made.plan, false) }, isCertain: false };
    }
    await this.#noticeDepartures(mirror);
    return { made: await this.#planAnew(mirror), isCertain: true };
  }

  /** Lets what was cut short go on first; what is left to do is planned anew then. */
  async #resume(
    mirror: Mirror,
    first: Made,
    isCertain: boolean,
    options: SyncOptions,
  ): Promise<PullReport & { readonly made: Made }> {
    const request = this.#pullRequest(mirror, first.plan, options);
    const interrupted = await this.#options.interrupted(request, this.#plans.sources.of(mirror).graph);
    if (interrupted === null) return { made: first, steps: [], bytes: 0 };
    options.onPlan(interrupted.plan);
    const { steps, bytes } = await this.#pull(mirror, interrupted.plan, options, interrupted);
    // What could not go on is in the new plan, from its beginning
    const done = options.signal.aborted ? steps : steps.filter(({ outcome }) => outcome.result === 'done');
    const made = this.#plans.make(mirror);
    return { made: { ...made, plan: withoutDoubtful(made.plan, isCertain) }, steps: done, bytes };
  }

  /** Remembers a plan that has nothing to do. */
  #settle(made: Omit<Settled, 'until'>, isCertain: boolean): void {
    const { mirror, plan: todo, copies } = made;
    if (this.#waitsForBookmarks(mirror.tree, todo).length > 0) return;
    const until = isCertain && !this.#isHeldBack(mirror.tree, todo) ? firstDue(todo.retained) : 0;
    // Graphs that nothing depends on are not to be kept alive
    this.#settled.set(mirrorKey(mirror), { ...made, until, copies: keepsForOthers(todo) ? copies : [] });
  }

  /** What was planned last, where nothing can have changed since. */
  #settledPlan(mirror: Mirror, { refresh }: SyncOptions): Plan | undefined {
    const settled = this.#settled.get(mirrorKey(mirror));
    if (settled?.mirror !== mirror || settled.basis !== this.#plans.sources.of(mirror).basis) return undefined;
    if (settled.isModified && refresh) return undefined;
    const isOver = settled.until !== null && settled.until <= this.#options.history.now();
    const haveMoved = keepsForOthers(settled.plan) && !isSame(settled.copies, this.#plans.copies(mirror.tree));
    return isOver || haveMoved ? undefined : settled.plan;
  }

  async #noticeDepartures(mirror: Mirror): Promise<void> {
    const { departures } = this.#options;
    // What was noticed and is there again must be forgotten also while nothing is given up: its next departure is another one
    if (mirror.graceMs === null && !departures.hasNoticed(mirror)) return;
    const { graph, follows, isLent } = this.#plans.sources.of(mirror);
    const gives = (dataset: Dataset): boolean => follows(dataset) && !isLent(dataset.id);
    await departures.notice(mirror, departed(graph, this.#plans.local(mirror.tree), gives));
  }

  async #pull(mirror: Mirror, todo: Plan, options: SyncOptions, interrupted?: Interrupted): Promise<PullReport> {
    const { tree } = mirror;
    this.#receiving.add(tree);
    this.#unsure.add(mirrorKey(mirror));
    try {
      const report = await this.#options.pull({
        ...this.#pullRequest(mirror, todo, options),
        ...(interrupted === undefined ? {} : { interrupted }),
      });
      if (todo.steps.some(({ kind }) => kind === 'preserve')) await this.#lookAtKept(mirror);
      if (report.steps.every(({ outcome }) => outcome.result !== 'failed')) this.#unsure.delete(mirrorKey(mirror));
      return report;
    } finally {
      this.#receiving.delete(tree);
    }
  }

  async #catchUp({ tree, from }: Mirror, { refresh, signal }: SyncOptions): Promise<void> {
    const { answerMsMax, timers } = this.#options;
    const inTime = { ms: answerMsMax, reason: () => silent(from, answerMsMax) };
    await withinTime(timers, inTime, (limit) =>
      uncancelled(tree, this.hear({ tree, from }, { refresh }), AbortSignal.any([signal, limit])),
    );
  }

  #pullRequest(mirror: Mirror, todo: Plan, { onProgress, signal, bytesPerSecond }: SyncOptions): PullRequest {
    const { tree, from, root } = mirror;
    const { linkMode, timers } = this.#options;
    return {
      peer: from,
      tree,
      root,
      plan: todo,
      local: () => this.#plans.local(tree),
      // Nobody could slow a direct one
      mode: bytesPerSecond === undefined ? linkMode(from) : 'sealed',
      limit: bytesPerSecond === undefined ? null : new RateLimit(timers, bytesPerSecond),
      settle: async (...shown) => {
        await this.#options.settle(tree, ...shown);
      },
      onProgress,
      signal,
    };
  }

  /**
   * A conflict may have been resolved by hand since the observer last looked, a sync that failed may have left what it could not tell of, and nothing is moved
   * out of the way for what is no longer so: then the mirror is looked at first.
   */
  async #planAnew(mirror: Mirror): Promise<Made> {
    // People decide what becomes of it, and no graph shows that they have
    if (this.#plans.hasHiddenClones(mirror.tree)) await this.#lookAtHidden(mirror);
    const first = this.#plans.make(mirror);
    const isPlain =
      first.plan.conflicts.length === 0 && !first.plan.steps.some(({ kind }) => LOOKED_AT_FIRST.has(kind));
    if (isPlain && !this.#unsure.has(mirrorKey(mirror))) return first;
    await this.#options.look(mirror.tree);
    const bookmarked = this.#waitsForBookmarks(mirror.tree, first.plan);
    if (bookmarked.length > 0) await this.#options.look(mirror.tree, bookmarked);
    return this.#planKeeping(mirror);
  }

  /** What no graph shows counts where contributors are limited, and where something is to be destroyed that it may hang off: only then it is looked at. */
  async #planKeeping(mirror: Mirror, modified?: ReadonlySet<DatasetId>): Promise<Made> {
    const made = this.#plans.make(mirror, modified);
    const counts = this.#plans.allowance(mirror) !== undefined && keepsAside(made.plan);
    if (!counts && !made.plan.steps.some(isGivingUp)) return made;
    await this.#lookAtHidden(mirror);
    return this.#plans.make(mirror, modified);
  }

  /** So that plans that people ask for know of what was just kept aside. Where ZFS fails at that, what was done is told all the same, and whoever destroys something looks first. */
  async #lookAtKept(mirror: Mirror): Promise<void> {
    try {
      await this.#lookAtHidden(mirror);
    } catch (error) {
      if (!(error instanceof PandoError)) throw error;
    }
  }

  async #lookAtHidden({ tree, root }: Mirror): Promise<void> {
    this.#plans.noteHidden(tree, await surveyHidden(this.#options.zfs, root));
  }

  /** Whether something may stay only for what no graph shows. */
  #isHeldBack(tree: TreeName, todo: Plan): boolean {
    return this.#plans.hasHiddenClones(tree) && keepsForDependents(todo);
  }

  /** The datasets, as they are called here, of which people have to destroy bookmarks: no change token tells of that. */
  #waitsForBookmarks(tree: TreeName, { conflicts }: Plan): RelativeName[] {
    return conflicts.flatMap((conflict) => {
      const here = this.#plans.local(tree).get(conflict.dataset);
      return conflict.reason === 'same-bookmarks' && here !== undefined ? [here.name, conflict.by] : [];
    });
  }

  /** Of one that has been told so before, the peer is told when it holds no more. */
  #tellLimits(mirror: Mirror, plan: Plan): void {
    const names = limitedBy(plan).map(({ name }) => name);
    const key = mirrorKey(mirror);
    if (names.length === 0 && !this.#limited.has(key)) return;
    if (names.length === 0) this.#limited.delete(key);
    else this.#limited.add(key);
    this.#options.onLimited(mirror, names);
  }
}

/** Whether a plan keeps something aside, or would if there were room. */
function keepsAside({ steps, conflicts }: Plan): boolean {
  return steps.some(({ kind }) => kind === 'preserve') || conflicts.some(({ reason }) => reason === 'aside-full');
}

/** Whether the step destroys what the owner has no more. */
function isForDeparted(step: Step): boolean {
  return step.kind === 'destroy-dataset' || (step.kind === 'destroy-snapshot' && step.because === 'departed');
}

/** The plan without what it destroys, unless that is certain. That comes last, and no other step waits for it. */
function withoutDoubtful(plan: Plan, isCertain: boolean): Plan {
  return isCertain ? plan : { ...plan, steps: plan.steps.filter((step) => !isGivingUp(step)) };
}

/** The replicas that ZFS did not receive into since they were written to. */
function modifiedIn({ steps }: PullReport): Set<DatasetId> {
  const found = steps.filter(({ outcome }) => outcome.result === 'failed' && outcome.error.code === 'ZFS_MODIFIED');
  return new Set(found.map(({ step }) => step.dataset));
}

function silent(peer: NodeId, answerMsMax: number): PandoError {
  return new PandoError(
    'PROTOCOL_TIMEOUT',
    `Peer ${peer} is connected but has not answered for ${answerMsMax / 1_000} seconds; look at "pando status" there.`,
    { peer },
  );
}
