// What the two commands of a fresh clone (`npm test`, `npm run demo`) and the bench do first. Nothing but Node's own
// modules here: this file runs before any dependency is installed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const checkout = fileURLToPath(new URL('../..', import.meta.url));

/** The oldest Node that runs Pando (package.json, engines). */
const NODE_MINIMUM = { major: 20, minor: 19 };

/** npm's own record of what it last installed here. */
const installedLockfile = join(checkout, 'node_modules/.package-lock.json');
const lockfile = join(checkout, 'package-lock.json');

/** The program that the build ends with, and everything that goes into it. */
const builtProgram = join(checkout, 'dist/src/main.js');
const buildInputs = ['src', 'peers', 'test', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'];

/**
 * `npm ci` exactly as the lockfile says, whatever the machine's npm settings are; only where packages come from is
 * left to them. No package needs its install script: native parts come prebuilt.
 */
const INSTALL_ARGUMENTS = [
  'ci',
  '--include=dev',
  '--include=optional',
  '--ignore-scripts',
  '--package-lock=true',
  '--package-lock-only=false',
  '--global=false',
  '--dry-run=false',
  '--no-audit',
  '--no-fund',
];

/**
 * Installs what package-lock.json names when node_modules is missing or older than it, and says so in one line.
 * Throws when this Node is too old, or with npm's exit code when the installation fails.
 */
export async function ensureDependencies() {
  assertNodeVersion();
  if ((await modifiedAt(installedLockfile)) >= (await modifiedAt(lockfile))) return;
  process.stdout.write('Installing the dependencies that package-lock.json names (npm ci) …\n');
  await run('npm', INSTALL_ARGUMENTS);
}

/**
 * Builds dist/ when the program is missing or older than the newest of its sources, and says so in one line.
 * Needs the dependencies. Throws with the compiler's exit code when the build fails.
 */
export async function ensureBuild() {
  const sources = await Promise.all(buildInputs.map((input) => newestBelow(join(checkout, input))));
  if ((await modifiedAt(builtProgram)) >= Math.max(...sources)) return;
  process.stdout.write('Building dist/ (npm run build) …\n');
  await run('npm', ['run', '--silent', 'build']);
}

function assertNodeVersion() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > NODE_MINIMUM.major || (major === NODE_MINIMUM.major && minor >= NODE_MINIMUM.minor)) return;
  throw new Error(
    `This is Node ${process.versions.node}; Pando needs ${NODE_MINIMUM.major}.${NODE_MINIMUM.minor} or newer. Put a newer one first in PATH.`,
  );
}

/**
 * Unix time in ms at which a file was last written; -Infinity when it does not exist.
 * @param {string} path
 */
async function modifiedAt(path) {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return Number.NEGATIVE_INFINITY;
    throw error;
  }
}

/**
 * Unix time in ms of the newest file at or below `path`; directories count too, for they tell of files removed.
 * @param {string} path
 * @returns {Promise<number>}
 */
async function newestBelow(path) {
  const status = await stat(path);
  if (!status.isDirectory()) return status.mtimeMs;
  const entries = await readdir(path, { recursive: true });
  const times = await Promise.all(entries.map((entry) => modifiedAt(join(path, entry))));
  return Math.max(status.mtimeMs, ...times);
}

/**
 * Runs a command in the checkout on this process's own standard streams.
 * @param {string} command
 * @param {readonly string[]} parameters
 */
async function run(command, parameters) {
  const child = spawn(command, parameters, { cwd: checkout, stdio: 'inherit' });
  const [exitCode, signal] = await once(child, 'close');
  if (exitCode === 0) return;
  throw new Error(`"${command} ${parameters.join(' ')}" ended with ${signal ?? `exit code ${exitCode}`}; see above.`);
}
