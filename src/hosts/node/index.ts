/**
 * Back ends that need Node.
 *
 * Life of a disk: `new FileDisk(path, options)` → the backend of a `virtioBlk` card, which reads and writes it while the
 * machine runs → the card is unplugged → `[Symbol.dispose]()` closes the file.
 *
 * Life of a stream: `await connectStream(address)` or `listenStream(address)` → `connect(card.net, port)` of the room net →
 * frames go both ways while there is a peer, `onPeer` tells of it → dispose of the cable, then of the port.
 */
export { FileDisk, type FileDiskOptions } from "./file-disk.js";
export {
  connectStream,
  listenStream,
  type PeerListener,
  type StreamAddress,
  type StreamCounters,
  StreamError,
  StreamPort,
  type StreamPortOptions,
  StreamServer,
  streamOn,
} from "./stream-port.js";
