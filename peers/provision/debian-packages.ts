import { execa } from 'execa';

/**
 * Installs those of the Debian packages that are missing. Resolves to null when all are there, and otherwise to what was in the way
 * together with what to do, as a part of a sentence.
 */
export async function installPackages(packages: readonly string[]): Promise<string | null> {
  const missing: string[] = [];
  for (const each of packages) if (!(await isInstalledPackage(each))) missing.push(each);
  if (missing.length === 0) return null;
  const names = missing.join(' ');
  if (!(await hasProgram('apt-get'))) return `install what Debian has as ${names} with this system's package manager`;
  if (process.getuid?.() !== 0) return `run "apt-get install ${names}" as root`;
  const options = { env: { DEBIAN_FRONTEND: 'noninteractive' }, reject: false, all: true, stdin: 'ignore' } as const;
  for (const command of [['update'], ['install', '-y', '--no-install-recommends', ...missing]]) {
    const { exitCode, all } = await execa('apt-get', command, options);
    if (exitCode !== 0) {
      const reason = all.trim().split('\n').at(-1) ?? '';
      return `"apt-get ${command.join(' ')}" failed (${reason}): install ${names} by hand`;
    }
  }
  return null;
}

/** Whether such a program is on the PATH. */
export async function hasProgram(program: string): Promise<boolean> {
  const { exitCode } = await execa('sh', ['-c', 'command -v "$1"', 'sh', program], { reject: false });
  return exitCode === 0;
}

async function isInstalledPackage(name: string): Promise<boolean> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg fills it in
  const words = ['--show', '--showformat=${db:Status-Status}', name];
  const { exitCode, stdout } = await execa('dpkg-query', words, { reject: false });
  return exitCode === 0 && stdout === 'installed';
}
