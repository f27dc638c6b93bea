import SecurityIcon from "@mui/icons-material/Security";
import { ListItemIcon, ListItemText, MenuItem } from "@mui/material";
import { AppBar, Logout, UserMenu, useUserMenu } from "react-admin";
import { Link } from "react-router-dom";

function SecondFactorItem() {
  const menu = useUserMenu();
  return (
    <MenuItem component={Link} to="/second-factor" onClick={() => menu?.onClose()}>
      <ListItemIcon>
        <SecurityIcon fontSize="small" />
      </ListItemIcon>
      <ListItemText>Second factor</ListItemText>
    </MenuItem>
  );
}

function OperatorMenu() {
  return (
    <UserMenu>
      <SecondFactorItem />
      <Logout />
    </UserMenu>
  );
}

/** The bar on top: where one is, and who. */
export function ConsoleAppBar() {
  return <AppBar color="secondary" userMenu={<OperatorMenu />} />;
}
