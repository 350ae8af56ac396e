import { type MirrorKey, type MirrorPlace, mirrorKey } from '../../core/admin.ts';
import { isPandoError } from '../../core/errors.ts';
import { DEPARTURES_PER_EVENT_MAX, type Departed, type DeparturesNoticed } from '../../core/events.ts';
import { DEPARTURES_TREE } from '../../core/ids.ts';
import { departureKey } from '../../core/plan/departures.ts';
import type { History } from '../../log/history.ts';
import { Turns } from '../../log/turns.ts';
import type { Timers } from '../../sync/timers.ts';

/** Events that may lie behind each other before the journal is written anew with those that still count. */
const EVENTS_MAX = 2_000;

/** A wall clock that is ahead of the time that really passed by more than this, in ms, was set, not merely corrected a little. */
const CLOCK_STEP_MS = 60_000;

interface Noticed {
  readonly departed: Departed;
  /** Unix ms. */
  readonly since: number;
}

interface MirrorDepartures {
  readonly mirror: MirrorPlace;
  readonly noticed: Map<ReturnType<typeof departureKey>, Noticed>;
}

/**
 * Since when this node knows that owners have destroyed what its mirrors still keep: grace periods begin there. In a private stream of its own.
 *
 * A host can begin with a wall clock that is years behind, and set it later. That must not end a grace period: when the wall clock has gone on by more than the time that
 * passed, everything is taken to have been noticed as much later.
 */
export class DepartureJournal {
  readonly #history: History;
  readonly #turns = new Turns<'journal'>();
  readonly #timers: Timers;
  readonly #mirrors = new Map<MirrorKey, MirrorDepartures>();
  #writtenAnewAt = EVENTS_MAX;
  /** What both clocks showed when they were held against each other last. */
  #clocks: { readonly wall: number; readonly steady: number };

  private constructor(history: History, timers: Timers) {
    this.#history = history;
    this.#timers = timers;
    this.#clocks = { wall: history.now(), steady: timers.now() };
  }

  /** Reads the journal of this node. A damaged one begins anew: then the grace periods do, and nothing goes too early. */
  static async open(history: History, timers: Timers): Promise<DepartureJournal> {
    const journal = new DepartureJournal(history, timers);
    const stream = history.ownStream(DEPARTURES_TREE);
    if (history.faults().some((fault) => fault.stream === stream)) {
      await beginAnew(history);
      return journal;
    }
    if (history.head(stream) === null) return journal;
    for await (const events of history.events(stream, await history.oldest(stream))) {
      for (const event of events) if (event.type === 'departures.noticed') journal.#apply(event);
    }
    return journal;
  }

  /** Since when a departure is known, in Unix ms; undefined when it was not noticed yet. */
  noticedAt(mirror: MirrorPlace, departed: Departed): number | undefined {
    return this.#mirrors.get(mirrorKey(mirror))?.noticed.get(departureKey(departed))?.since;
  }

  /** Whether anything was noticed of a mirror that still counts. */
  hasNoticed(mirror: MirrorPlace): boolean {
    return this.#mirrors.has(mirrorKey(mirror));
  }

  /** Takes down what has departed from a mirror by now, and that the rest of what was noticed before no longer counts. */
  notice({ tree, from }: MirrorPlace, departed: readonly Departed[]): Promise<void> {
    return this.#turns.run('journal', async () => {
      await this.#followClock();
      const known: MirrorDepartures['noticed'] = this.#mirrors.get(mirrorKey({ tree, from }))?.noticed ?? new Map();
      const now = new Set(departed.map(departureKey));
      const fresh = departed.filter((one) => !known.has(departureKey(one)));
      const settled = Array.from(known.values(), (noticed) => noticed.departed).filter(
        (one) => !now.has(departureKey(one)),
      );
      await this.#record({ tree, from }, this.#history.now(), { departed: fresh, settled });
      await this.#writeAnew();
    });
  }

  async #followClock(): Promise<void> {
    const now = { wall: this.#history.now(), steady: this.#timers.now() };
    const step = now.wall - this.#clocks.wall - (now.steady - this.#clocks.steady);
    if (step > CLOCK_STEP_MS) await this.#recordAll(Math.round(step));
    this.#clocks = now;
  }

  /** Records all that counts once more, as noticed so many ms later. */
  async #recordAll(laterMs: number): Promise<void> {
    for (const { mirror, noticed } of [...this.#mirrors.values()]) {
      for (const [since, departed] of bySince(noticed.values())) {
        await this.#record(mirror, since + laterMs, { departed, settled: [] });
      }
    }
  }

  async #record(
    { tree, from }: MirrorPlace,
    since: number,
    { departed, settled }: Pick<DeparturesNoticed, 'departed' | 'settled'>,
  ): Promise<void> {
    const parts = Math.ceil(Math.max(departed.length, settled.length) / DEPARTURES_PER_EVENT_MAX);
    const bodies = Array.from({ length: parts }, (_, part): DeparturesNoticed => {
      const range = [part * DEPARTURES_PER_EVENT_MAX, (part + 1) * DEPARTURES_PER_EVENT_MAX] as const;
      return {
        type: 'departures.noticed',
        tree,
        from,
        since,
        departed: departed.slice(...range),
        settled: settled.slice(...range),
      };
    });
    if (bodies.length === 0) return;
    await this.#history.record(DEPARTURES_TREE, 'observed', bodies);
    for (const body of bodies) this.#apply(body);
  }

  #apply({ tree, from, since, departed, settled }: DeparturesNoticed): void {
    const mirror = { tree, from };
    const noticed: MirrorDepartures['noticed'] = this.#mirrors.get(mirrorKey(mirror))?.noticed ?? new Map();
    for (const one of settled) noticed.delete(departureKey(one));
    for (const one of departed) noticed.set(departureKey(one), { departed: one, since });
    if (noticed.size === 0) this.#mirrors.delete(mirrorKey(mirror));
    else this.#mirrors.set(mirrorKey(mirror), { mirror, noticed });
  }

  /** Writes what counts once more, and forgets all before. Cut short between the two, it says the same twice. */
  async #writeAnew(): Promise<void> {
    const stream = this.#history.ownStream(DEPARTURES_TREE);
    const newest = this.#history.head(stream)?.seq ?? 0;
    if (newest < this.#writtenAnewAt) return;
    await this.#recordAll(0);
    this.#writtenAnewAt = (this.#history.head(stream)?.seq ?? 0) + EVENTS_MAX;
    await this.#history.compact(stream, newest);
  }
}

function bySince(noticed: Iterable<Noticed>): Map<number, Departed[]> {
  const groups = new Map<number, Departed[]>();
  for (const { departed, since } of noticed) {
    const group = groups.get(since);
    if (group === undefined) groups.set(since, [departed]);
    else group.push(departed);
  }
  return groups;
}

async function beginAnew(history: History): Promise<void> {
  try {
    await history.startIncarnation(DEPARTURES_TREE);
  } catch (error) {
    // It stays a fault, which History tells of; mirrors that have no grace period go on
    if (!isPandoError(error, 'LOG_CORRUPT')) throw error;
  }
}
