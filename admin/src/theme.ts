import { defaultLightTheme, type RaThemeOptions } from "react-admin";

const INK = "#1f2a37";
const TEAL = "#0f5c63";

const FONTS = [
  "system-ui",
  "-apple-system",
  '"Segoe UI"',
  "Roboto",
  '"Helvetica Neue"',
  "Arial",
  "sans-serif",
].join(",");

/** Calm and dense: an operator reads tables all day. The fonts are the machine's own. */
export const theme: RaThemeOptions = {
  ...defaultLightTheme,
  palette: {
    mode: "light",
    primary: { main: TEAL, contrastText: "#ffffff" },
    secondary: { main: INK, contrastText: "#ffffff" },
    background: { default: "#f5f6f8", paper: "#ffffff" },
    text: { primary: INK, secondary: "#5b6675" },
    success: { main: "#1d6f42" },
    warning: { main: "#8a5a00" },
    error: { main: "#b3261e" },
    divider: "#e2e5ea",
  },
  shape: { borderRadius: 6 },
  typography: { fontFamily: FONTS, fontSize: 13.5, h6: { fontWeight: 600 } },
  sidebar: { width: 224, closedWidth: 52 },
  components: {
    ...defaultLightTheme.components,
    MuiButtonBase: {
      styleOverrides: {
        root: {
          // Where the keyboard is must be seen on every control.
          "&.Mui-focusVisible": { outline: `2px solid ${TEAL}`, outlineOffset: 2 },
        },
      },
    },
    MuiButton: { styleOverrides: { root: { textTransform: "none", fontWeight: 600 } } },
    MuiCard: {
      defaultProps: { variant: "outlined" },
      styleOverrides: { root: { boxShadow: "none" } },
    },
    MuiPaper: { styleOverrides: { rounded: { boxShadow: "none" } } },
    MuiTextField: {
      defaultProps: { variant: "outlined", margin: "dense", size: "small", fullWidth: true },
    },
    MuiFormControl: {
      defaultProps: { variant: "outlined", margin: "dense", size: "small", fullWidth: true },
    },
    // On the page's grey, fields are white as tables are.
    MuiOutlinedInput: { styleOverrides: { root: { backgroundColor: "#ffffff" } } },
    RaMenuItemLink: {
      styleOverrides: {
        root: {
          borderRadius: 6,
          margin: "0 6px",
          "&.RaMenuItemLink-active": { backgroundColor: "#e3e9ea", fontWeight: 600 },
        },
      },
    },
    // On a phone it would be a white box with room for buttons that are elsewhere.
    RaListToolbar: {
      styleOverrides: {
        root: { backgroundColor: "transparent !important", minHeight: "auto !important" },
      },
    },
    // On a phone two filters beside each other: seven of them would push the rows off the screen.
    RaFilterForm: {
      styleOverrides: {
        root: {
          "@media (max-width: 599px)": {
            display: "grid",
            gridTemplateColumns: "minmax(0, 1fr) minmax(0, 1fr)",
            "& .MuiFormControl-root": { width: "100% !important" },
          },
        },
      },
    },
    RaTopToolbar: { styleOverrides: { root: { minHeight: 0 } } },
    RaToolbar: { styleOverrides: { root: { backgroundColor: "transparent" } } },
    RaSimpleList: { styleOverrides: { root: { "& .RaSimpleList-tertiary": { opacity: 1 } } } },
    MuiTableCell: {
      styleOverrides: {
        head: { fontWeight: 600, color: "#5b6675", whiteSpace: "nowrap" },
        body: { "& time": { whiteSpace: "nowrap" } },
      },
    },
  },
};
