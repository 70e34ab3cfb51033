// Preloaded into the origin: when `graft dev` is killed (kill -9), the channel closes and the origin ends
// itself instead of holding its port and the model's memory.
if (process.channel !== undefined) {
  process.once('disconnect', () => process.exit(0));
  process.channel.unref();
}
