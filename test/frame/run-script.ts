import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';

/** What a script of the frame said, and how it ended. */
export interface ScriptResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  /** Lines of standard error that are not empty. */
  readonly problems: readonly string[];
}

/** Runs a script with this Node, as a process of its own without input, and waits for it to end. */
export async function runScript(script: string, ...parameters: readonly string[]): Promise<ScriptResult> {
  const child = spawn(process.execPath, [script, ...parameters], { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = once(child, 'close');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [exitCode] = await closed;
  return { exitCode, stdout, problems: stderr.split('\n').filter((line) => line !== '') };
}

/** Writes files, given by their paths below `root`, and the directories they need. */
export async function writeTree(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}
