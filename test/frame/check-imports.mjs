// Checks the direction of imports under src/ of this checkout, or of the directory given as the only argument.
//
// A parser that does not understand its input sees no modules and no violations, and calls that success. So the modules
// seen are compared with the files that are there.
import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cruise } from 'dependency-cruiser';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const { forbidden, options } = createRequire(import.meta.url)('../../.dependency-cruiser.cjs');

/** Paths of the TypeScript files under src/, relative to the current directory and sorted. */
async function sourceFiles() {
  const entries = await readdir('src', { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** @param {import('dependency-cruiser').IViolation} violation */
function describeViolation({ rule, from, to, cycle }) {
  const path = cycle === undefined ? [to] : cycle.map(({ name }) => name);
  return `${rule.name}: ${[from, ...path].join(' -> ')}`;
}

process.chdir(resolve(process.argv[2] ?? checkout));
const { output } = await cruise(['src'], { ...options, validate: true, ruleSet: { forbidden } }, undefined, {
  tsConfig: undefined,
});
if (typeof output === 'string') throw new Error('dependency-cruiser gave a text where a result was expected');

const expected = await sourceFiles();
const seen = new Set(output.modules.map(({ source }) => source));
const missed = expected.filter((file) => !seen.has(file));
const cruised = output.modules.filter(({ source }) => source.startsWith('src/')).length;
const { violations, totalDependenciesCruised } = output.summary;

for (const violation of violations) process.stderr.write(`${describeViolation(violation)}\n`);
for (const file of missed) process.stderr.write(`not-seen: ${file}\n`);
if (expected.length === 0) process.stderr.write('no-sources: there is not one TypeScript file under src\n');
process.stdout.write(
  `${cruised} modules of ${expected.length} files, ${totalDependenciesCruised} imports, ${violations.length} violations\n`,
);
if (violations.length > 0 || missed.length > 0 || cruised !== expected.length || expected.length === 0) {
  process.exitCode = 1;
}
