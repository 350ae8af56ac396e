import type { Checker, Finding } from './checker.ts';

/** Invariant 5, as far as a world at rest shows it: whatever was cut short was repeated to its end, so that nothing is left to do anywhere. */
export const sameAgain: Checker = {
  invariant: 5,
  async check({ machines }) {
    const found: Finding[] = [];
    for (const { name, node, mirrors } of machines) {
      for (const { tree } of mirrors.values()) {
        for (const step of node?.mirrors.plan(tree).steps ?? []) {
          found.push({ machine: name, what: `${tree}: ${step.kind} ${step.name || 'the root'} is still to be done` });
        }
      }
    }
    return found;
  },
};
