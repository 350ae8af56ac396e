/**
 * Times of change to the nanosecond, set with one run of perl(1) for many files. Node hands times on as floating-point numbers of seconds, which are good to the microsecond in our days (and libuv cuts
 * them there); touch(1) takes one time for each process. Perl of itself cannot either, but it makes system calls, and Debian has it on every machine (package `perl-base`, essential).
 */
import { PandoError } from '../../../core/errors.ts';
import { checkNotAborted } from './failures.ts';
import { NS_PER_SECOND } from './pax.ts';
import { firstLineOf, runProgram } from './programs.ts';

/** A time of one file; the path is relative to the root, and empty for that. */
export interface TimedFile {
  readonly path: Buffer;
  /** Since 1970, in nanoseconds; negative before. */
  readonly mtimeNs: bigint;
}

const NS_PER_US = 1000n;
const US_PER_SECOND = 1_000_000;
/** The kernel cuts microseconds off what Node hands it as a floating-point number; the middle of one survives that. */
const HALF_US = 0.5;
/** Times that Node sets to the microsecond: those whose number of half microseconds a floating-point number holds. */
const NODE_TIME_MAX_NS = (BigInt(Number.MAX_SAFE_INTEGER) / 2n) * NS_PER_US;
/** Number of utimensat(2) by Node's name of the processor (`asm/unistd.h` of each). */
const UTIMENSAT: Readonly<Record<string, number>> = {
  x64: 280,
  arm64: 88,
  riscv64: 88,
  loong64: 88,
  ppc64: 304,
  s390x: 315,
};
/** From the working directory (AT_FDCWD), and of links themselves (AT_SYMLINK_NOFOLLOW). Its input is seconds, nanoseconds and path of each file, ended by NUL. */
const SCRIPT = `
  my $call = shift() + 0;
  $/ = "\\0";
  while (defined(my $file = <STDIN>)) {
    chomp $file;
    my ($seconds, $ns, $path) = split / /, $file, 3;
    my $times = pack "q4", $seconds, $ns, $seconds, $ns;
    syscall($call, -100, $path, $times, 0x100) == 0 or die "$path: $!\\n";
  }
`;

/** Whether Node would set another time than this one. */
export function needsExactTime(ns: bigint): boolean {
  return ns < 0n || ns > NODE_TIME_MAX_NS || ns % NS_PER_US !== 0n;
}

/** A time as Node takes it, in seconds: good to the microsecond, and not before 1970. */
export function fileTime(ns: bigint): number {
  return ns <= 0n ? 0 : (Number(ns / NS_PER_US) + HALF_US) / US_PER_SECOND;
}

/** Sets times of files below `root`, not of what links point to. Rejects with `PROGRAM_MISSING`, `ZFS_UNSUPPORTED` on processors that this does not know, `ZFS_PERMISSION`, or `PROGRAM_FAILED`. */
export async function setExactTimes(root: string, files: Iterable<TimedFile>, signal: AbortSignal): Promise<void> {
  const call = UTIMENSAT[process.arch];
  if (call === undefined) {
    throw new PandoError(
      'ZFS_UNSUPPORTED',
      `The times of the layer cannot be set on the processor "${process.arch}"; unpack it on another machine, and sync it from there.`,
    );
  }
  const words = ['-e', SCRIPT, String(call)];
  const complaint = await runProgram({ program: 'perl', words, directory: root, signal, input: linesOf(files) });
  checkNotAborted(signal);
  if (complaint === null) return;
  const code = /not permitted|Permission denied/.test(complaint) ? 'ZFS_PERMISSION' : 'PROGRAM_FAILED';
  throw new PandoError(code, `Times of the layer could not be set: perl says "${firstLineOf(complaint)}".`, {
    program: 'perl',
    complaint,
  });
}

function* linesOf(files: Iterable<TimedFile>): Generator<Buffer> {
  for (const { path, mtimeNs } of files) {
    // The kernel takes nanoseconds that count up, also before 1970
    const ns = ((mtimeNs % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
    const name = path.length === 0 ? '.' : path.toString('latin1');
    yield Buffer.from(`${(mtimeNs - ns) / NS_PER_SECOND} ${ns} ${name}\0`, 'latin1');
  }
}
