/** The same as in icon.svg, in the colour of the page. */
export const Mark = () => (
  <svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
    <path
      d="M8 15V7M8 9C4 9 3 6 3 2c4 0 5 3 5 7Zm0 2c3 0 5-2 5-6-4 0-5 3-5 6Z"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
    />
  </svg>
);
