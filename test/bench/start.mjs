/** `npm run bench`: dependencies and build first, with Node's own modules only, then the benchmark itself. */
import { ensureBuild, ensureDependencies } from '../../peers/provision/bootstrap.mjs';

await ensureDependencies();
await ensureBuild();
await import(new URL('../../dist/test/bench/bench.js', import.meta.url).href);
