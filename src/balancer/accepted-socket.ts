import { Socket, type SocketConstructorOpts } from "node:net";

/** What Node calls the system's side of a socket; not a part of its documented interface. */
interface WithHandle {
  _handle: object | null;
}

/**
 * An accepted socket that reads into memory of ours, as `onread` lets sockets do that connect. Else each read costs a buffer of
 * its own, and a way through a stream that nobody needs. Node's servers can't be told so; therefore a new socket gets the
 * handle of the accepted one. The Node that ships with us is known to the last digit.
 * @param accepted by a server with `pauseOnConnect`, half-open; not to be used any more
 * @param take is called after each read, which has filled so many bytes of `memory`
 */
export function readInto(accepted: Socket, memory: Buffer, take: (bytes: number) => void): Socket {
  const former = accepted as unknown as WithHandle;
  const handle = former._handle;
  former._handle = null;
  const options = {
    handle,
    allowHalfOpen: true,
    onread: {
      buffer: memory,
      callback: (bytes: number) => {
        take(bytes);
        return true;
      },
    },
  };
  const socket = new Socket(options as unknown as SocketConstructorOpts);
  // The server counts the accepted one.
  socket.on("close", () => accepted.destroy());
  return socket;
}
