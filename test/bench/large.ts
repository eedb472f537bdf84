/** A process with a VM of as many vCPUs as its argument says and 16 MiB of RAM, on all of which an interrupt has been taken. */
import { broadcastRow, openAlone } from './alone.ts';

const vcpus = Number(process.argv[2]);
const row = await openAlone(broadcastRow('shorthand', vcpus, vcpus - 1));
await row.run(1);
