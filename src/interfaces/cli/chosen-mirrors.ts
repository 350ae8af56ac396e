import type { Mirror } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { CommandContext } from './command-context.ts';
import type { DaemonClient } from './daemon-client.ts';

/** The mirrors of these trees, or all when none is named; says so when there are none. Throws `MIRROR_UNKNOWN`. */
export async function chosenMirrors(
  { json, output }: CommandContext,
  client: DaemonClient,
  trees: readonly string[],
): Promise<readonly Mirror[]> {
  const mirrors = await client.mirrors();
  if (trees.length > 0) return trees.flatMap((tree) => findMirrors(mirrors, tree));
  if (mirrors.length === 0 && !json) output.line('This node has no mirror; add one with "pando mirror add".');
  return mirrors;
}

function findMirrors(mirrors: readonly Mirror[], tree: string): Mirror[] {
  const found = mirrors.filter((one) => one.tree === tree);
  if (found.length > 0) return found;
  throw new PandoError(
    'MIRROR_UNKNOWN',
    `This node has no mirror of "${tree}"; "pando mirror ls" lists those it has.`,
    { tree },
  );
}
