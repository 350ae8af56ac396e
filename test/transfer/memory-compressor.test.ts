import { MemoryCompressor } from '../../src/transfer/compression/memory-compressor.ts';
import { describeCompressor } from '../suites/compressor-contract.ts';

describeCompressor('the compressor in memory', () => new MemoryCompressor(), { runs: 100 });
