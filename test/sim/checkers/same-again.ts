import type { Checker, Finding } from './checker.ts';

/** Invariant 5, as far as a world at rest shows it: whatever was cut short was repeated to its end, so that nothing is left to do anywhere. */
export const sameAgain: Checker = {
  invariant: 5,
  async check({ lastSyncs }) {
    const found: Finding[] = [];
    for (const { machine, mirror, report } of lastSyncs) {
      const { tree } = mirror;
      if (report instanceof Error) found.push({ machine: machine.name, what: `${tree}: ${report.message}` });
      else {
        for (const { step, outcome } of report.steps) {
          const what = `${tree}: ${step.kind} ${step.name || 'the root'} was still to be done: ${outcome.result}`;
          found.push({ machine: machine.name, what });
        }
      }
    }
    return found;
  },
};
