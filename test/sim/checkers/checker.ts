import type { World } from '../world.ts';

/** What a checker found: on which machine, and what. */
export interface Finding {
  readonly machine: string;
  readonly what: string;
}

/** Judges a world that has come to rest, by one invariant of design §12. It looks at disks and graphs, not at how they came to be. */
export interface Checker {
  readonly invariant: number;
  check(world: World): Promise<Finding[]>;
}
