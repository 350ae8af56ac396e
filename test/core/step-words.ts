import type { RelativeName } from '../../src/core/ids.ts';
import type { Step } from '../../src/core/plan/steps.ts';

/** A step in a line: `clone web base@b..@d -I`. */
export function inWords(step: Step): string {
  const name = place(step.name);
  switch (step.kind) {
    case 'rename':
      return `rename ${step.from} → ${name}`;
    case 'take-root':
      return `take-root ${step.from}, former root → ${step.former.name}`;
    case 'create-placeholder':
      return `placeholder ${name}`;
    case 'promote':
      return `promote ${name} over ${place(step.over)}`;
    case 'clone':
      return `clone-here ${name} ${step.origin.name}@${step.origin.snapshot.name}`;
    case 'rename-snapshot':
      return `rename ${name}@${step.from} → @${step.to}`;
    case 'preserve':
      return `preserve ${name} behind @${step.lastCommon?.name}: ${step.localOnly.join(' ')}`;
    case 'destroy-snapshot':
      return `destroy ${name}@${step.snapshot.name}: ${step.because}`;
    case 'destroy-dataset':
      return `destroy ${name}`;
    case 'receive-full':
      return `full ${name} @${step.to.name}`;
    default: {
      const base = `${place(step.base.name)}@${step.base.snapshot.name}`;
      const how = step.intermediates ? '-I' : '-i';
      return `${step.kind.replace('receive-', '')} ${name} ${base}..@${step.to.name} ${how}`;
    }
  }
}

function place(name: RelativeName): string {
  return name === '' ? '.' : name;
}
