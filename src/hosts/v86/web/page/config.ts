/** What the page is told by its server at `/config.json`: types only, for both. */

/** A card and the addresses of both ends of its cable. */
export interface CardConfig {
  /** as on the command line: `re`, `vtnet`, or a Realtek chip such as `8139c+` */
  readonly name: string;
  readonly title: string;
  readonly slot: number;
  readonly mac: string;
  readonly guestAddress: string;
  readonly peerAddress: string;
  readonly peerMac: string;
}

/** An image that the server has under `url`. */
export interface ImageConfig {
  readonly url: string;
  /** bytes */
  readonly size: number;
}

export const IMAGE_NAMES = ["bios", "vga_bios", "bzimage", "initrd", "hda", "cdrom"] as const;
export type ImageName = (typeof IMAGE_NAMES)[number];

export interface WebConfig {
  readonly cards: readonly CardConfig[];
  /** what virtio cards are */
  readonly mode: "legacy" | "transitional" | "modern";
  /** `peer`: a station in the page for each card; otherwise v86's `relay_url`, where the first card's cable leads */
  readonly net: string;
  /** names of cards that the page may ask for */
  readonly names: readonly { readonly name: string; readonly title: string }[];
  readonly images: { readonly [name in ImageName]?: ImageConfig };
  /** of the kernel, where the image is one */
  readonly cmdline: string;
  /** bytes */
  readonly memory: number;
  /** the images are the project's own guest, which obeys on its serial ports */
  readonly debian: boolean;
  /** where a state of the booted guest may be got and put; null: boot anew, and keep nothing */
  readonly state: string | null;
}
