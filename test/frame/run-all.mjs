// `npm test`: everything that can be checked, the quickest first, up to the first failure.
//
// The last line counts the tests of all vitest projects that ran: `N passed, N failed`, and `, N skipped` if any were. A
// stage that fails without a failing test (a type error, a file that does not load) counts as one failure.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureDependencies } from '../../peers/provision/bootstrap.mjs';

const checkout = fileURLToPath(new URL('../..', import.meta.url));

const checks = ['typecheck', 'lint', 'imports', 'dead-code', 'build'];
const unitTests = 'test:unit';
/** Real pools on a real ZFS: needs root, zfs-fuse and /dev/fuse. */
const platformTests = 'test:platform';

const withoutPlatform = '--without-platform';

/** @typedef {{ passed: number, failed: number, skipped: number }} Totals */

/**
 * Runs one script of package.json as npm does, without npm in between: its start-up time and the machine's npm settings
 * stay out of it. The script has this process's own output, and no input.
 * @param {string} script
 * @param {readonly string[]} parameters
 * @returns {Promise<boolean>} whether it succeeded
 */
async function runScript(script, parameters) {
  const { scripts } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8'));
  const child = spawn('sh', ['-c', `${scripts[script]} "$@"`, script, ...parameters], {
    cwd: checkout,
    env: { ...process.env, PATH: [join(checkout, 'node_modules/.bin'), process.env.PATH].join(delimiter) },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [exitCode] = await once(child, 'close');
  return exitCode === 0;
}

/**
 * Reads what vitest's JSON reporter wrote; nothing was counted when it wrote nothing.
 * @param {string} reportFile
 * @returns {Promise<Totals>}
 */
async function readTotals(reportFile) {
  try {
    const report = JSON.parse(await readFile(reportFile, 'utf8'));
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests,
      skipped: report.numPendingTests + report.numTodoTests,
    };
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error;
    return { passed: 0, failed: 0, skipped: 0 };
  }
}

/**
 * Runs one stage and prints how long it took.
 * @param {string} script
 * @param {string} reports directory for vitest's reports
 * @returns {Promise<{ succeeded: boolean, totals: Totals }>}
 */
async function runStage(script, reports) {
  const reportFile = join(reports, `${script.replace(':', '-')}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`];
  process.stdout.write(`\n== ${script}\n`);
  const started = performance.now();
  const succeeded = await runScript(script, checks.includes(script) ? [] : reporters);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`== ${script}: ${succeeded ? 'ok' : 'FAILED'} after ${seconds} s\n`);

  const totals = await readTotals(reportFile);
  if (!succeeded && totals.failed === 0) totals.failed = 1;
  return { succeeded, totals };
}

/**
 * @param {readonly string[]} stages
 * @param {string} reports
 * @returns {Promise<Totals>}
 */
async function runStages(stages, reports) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const stage of stages) {
    const { succeeded, totals } = await runStage(stage, reports);
    sum.passed += totals.passed;
    sum.failed += totals.failed;
    sum.skipped += totals.skipped;
    if (!succeeded) break;
  }
  return sum;
}

const parameters = process.argv.slice(2);
const unknown = parameters.find((parameter) => parameter !== withoutPlatform);
if (unknown !== undefined) {
  process.stderr.write(`"${unknown}" is no option of npm test; there is ${withoutPlatform} only.\n`);
  process.exit(2);
}

try {
  await ensureDependencies();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.stdout.write('\n0 passed, 1 failed\n');
  process.exit(1);
}

const stages = [...checks, unitTests];
if (parameters.includes(withoutPlatform)) process.stdout.write(`${platformTests} is left out (${withoutPlatform}).\n`);
else stages.push(platformTests);

const reports = await mkdtemp(join(tmpdir(), 'pando-test-'));
try {
  const { passed, failed, skipped } = await runStages(stages, reports);
  if (failed > 0) process.exitCode = 1;
  process.stdout.write(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
} finally {
  await rm(reports, { recursive: true });
}
