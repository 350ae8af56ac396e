import type { Dataset } from '../../src/core/graph/graph.ts';

/** What `pando graph --json` prints, as far as the demo shows it. */
export interface ShownGraph {
  readonly datasets: readonly Dataset[];
}

function linesOf({ datasets }: ShownGraph): string[] {
  const byGuid = new Map(
    datasets.flatMap(({ name, snapshots }) => snapshots.map((snapshot) => [snapshot.guid, `${name}@${snapshot.name}`])),
  );
  return datasets.flatMap(({ name, origin, snapshots }) => {
    const from = origin === null ? '' : ` ← ${byGuid.get(origin.snapshot) ?? origin.snapshot}`;
    return [
      `${name === '' ? '(root)' : name}${from}`,
      ...snapshots.map((snapshot) => `  @${snapshot.name.padEnd(10)} ${snapshot.guid.padStart(20)}`),
    ];
  });
}

/** Two graphs line by line, with `=` between lines that are the same and `≠` between others. */
export function sideBySide(left: ShownGraph, right: ShownGraph, titles: readonly [string, string]): string {
  const [one, other] = [linesOf(left), linesOf(right)];
  const width = Math.max(titles[0].length, ...one.map((line) => line.length));
  const rows = Array.from({ length: Math.max(one.length, other.length) }, (_, row) => {
    const [a = '', b = ''] = [one[row], other[row]];
    return `  ${a.padEnd(width)}  ${a === b ? '=' : '≠'}  ${b}`;
  });
  return [`  ${titles[0].padEnd(width)}     ${titles[1]}`, ...rows].join('\n');
}
